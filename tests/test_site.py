"""The site that `make docs` builds: it loads nothing from other hosts, and both languages, the
search index and the pages that links name are there.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("material", reason="pip install -e '.[docs]'")
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs/site/hooks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(hooks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, built as `make docs` does: a broken link ends the build."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    target = tmp_path_factory.mktemp("site")
    config: Any = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(target))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return target


def test_every_page_is_built_in_its_language(site: Path) -> None:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        uri = page.relative_to(ROOT / "docs").with_suffix(".html")
        built = (site / uri.parent / uri.name.replace("README", "index")).read_text("utf-8")
        assert f'<html lang="{"zh" if uri.parts[0] == "zh" else "en"}"' in built, uri
        assert "```" not in re.sub(r"<pre.*?</pre>", "", built, flags=re.DOTALL), uri
    assert "gpt.py" in (site / "code/src/chatling/model/gpt.py.html").read_text("utf-8")
    assert (site / "search/search_index.js").stat().st_size > 100_000
    assert (site / "site/temml.min.js").exists()


def test_the_site_loads_nothing_from_other_hosts(site: Path, hooks: ModuleType) -> None:
    pages = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(pages) > 30
    assert not [p.name for p in pages if hooks.foreign_loads(p.read_text("utf-8"))]


@pytest.mark.parametrize(
    ("text", "loads"),
    [
        ('<script src="https://a.test/x.js"></script>', True),
        ("<img alt='x' src=//a.test/x.png>", True),
        ('<link rel="stylesheet" href="https://a.test/x.css">', True),
        ('<link href="https://a.test/" rel=preconnect>', True),
        ("@font-face { src: url('https://a.test/x.woff2') }", True),
        ('@import "https://a.test/x.css";', True),
        ('<a href="https://a.test/">a link</a> <img src="x.png">', False),
        ('<link rel="canonical" href="https://a.test/">', False),
        ('<pre>&lt;script src="https://a.test/x.js"&gt; url(https://a.test)</pre>', False),
    ],
)
def test_what_is_loaded_from_elsewhere_is_found(hooks: ModuleType, text: str, loads: bool) -> None:
    assert bool(hooks.foreign_loads(text)) == loads
