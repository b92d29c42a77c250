"""The page's own engine in Node, and the page in Chromium: the same tokens, sums and answers."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chatling.errors import DataError, RecipeError
from chatling.export import html, verify
from chatling.export.formats import export
from chatling.tools.calculator import calculate

from .conftest import TOKENS, answers, prompts

node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
PAGE = html.PAGE


def run_node(script: str, value: object) -> object:
    """The JSON that a script prints which finds `value` in `input`."""
    program = f"const input = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n{script}"
    done = subprocess.run(
        ["node", "-e", program],
        input=json.dumps(value),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


ENGINE = """
const { calculate } = require(input.page + "/calculator.js");
global.calculate = calculate;
const { Tokenizer, Model, answer, bytesOf } = require(input.page + "/engine.js");
const html = require("fs").readFileSync(input.html, "utf8");
const between = (opening) => html.split(opening)[1].split("</script>")[0].trim();
const meta = JSON.parse(between('<script type="application/json" id="meta">'));
const weights = bytesOf(between('<script type="text/plain" id="weights">')).buffer;
const tokenizer = new Tokenizer(meta), model = new Model(meta, weights);
const tokens = input.texts.map((text) => tokenizer.encode(text));
tokenizer.prompt = (turns) => turns;
const said = (ids) => [...answer(model, tokenizer, ids, { limit: input.limit })];
const answers = input.prompts.map(said);
model.ids = [];
const logits = input.prompts[0].map((id) => [...model.step(id)]);
console.log(JSON.stringify({ tokens, answers, logits }));
"""


IN_PAGE = """([asked, limit]) => {
  const given = Object.create(tokenizer, { prompt: { value: (ids) => ids } });
  return asked.map((ids) => [...answer(model, given, ids, { limit })]);
}"""


@node
@pytest.mark.parametrize(
    ("preset", "digits", "steps"),
    [("classic", 1, 100), ("classic", 2, 0), ("classic", 3, 0), ("modern", 1, 100)],
)
def test_the_pages_engine_gives_our_tokens_logits_and_answers(
    learned, folder, preset, digits, steps
):
    import torch

    source = learned(preset, digits, steps)
    export(source, "html", folder, "f32")
    asked, texts = prompts(source), verify.sample_texts()
    given = {"page": str(PAGE), "html": str(next(folder.glob("*.html"))), "texts": texts}
    found = run_node(ENGINE, given | {"prompts": asked, "limit": TOKENS})
    assert found["tokens"] == [source.tokenizer.encode(text) for text in texts]
    with torch.no_grad():
        ours = source.model.logits(source.model(torch.tensor([asked[0]])))[0]
    torch.testing.assert_close(
        torch.tensor(found["logits"], dtype=torch.float32), ours, atol=5e-5, rtol=0
    )
    ours_said = answers(source, asked)
    assert found["answers"] == ours_said
    assert not steps or any(source.tokenizer.output_end in ids for ids in ours_said)


numbers = st.one_of(
    st.integers(0, 10**12).map(str),
    st.integers(0, 10**9).map(lambda n: f"{n:,}"),
    st.decimals(0, 10**6, places=4).map(lambda d: f"{d:f}"),
    st.sampled_from(["1e5", "2.5e-3", "1e300", "1e-300", ".5", "5.", "0", "007", "9" * 101]),
)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(
            inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**", " - ", " "]), inner
        ).map("".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-{text}"),
    ),
    max_leaves=6,
)
# floats below 2 ** -1022 have fewer digits than others
SUBNORMAL = [
    f"{a}e-{b}/{c}"
    for a in ("1", "2.2250738585072", "4.9", "7.41")
    for b in (290, 300, 308)
    for c in ("1e8", "1000000000000", "3e15", "1e16", "7e15/9e15", "1e20")
]
counts = st.tuples(
    st.text("abcé😀' \"\\", max_size=8), st.text("ab😀", max_size=2), st.sampled_from("'\"")
).map(lambda t: f"{t[2]}{t[0]}{t[2]}.count({t[2]}{t[1]}{t[2]})")


@node
@settings(max_examples=3, deadline=None)
@example(SUBNORMAL)
@given(st.lists(st.one_of(expressions, counts, st.text(max_size=12)), min_size=200, max_size=300))
def test_the_pages_calculator_is_ours(texts):
    script = """
    const { calculate } = require(input.page);
    console.log(JSON.stringify(input.texts.map(calculate)));
    """
    theirs = run_node(script, {"page": str(PAGE / "calculator.js"), "texts": texts})
    assert dict(zip(texts, theirs, strict=True)) == {text: calculate(text) for text in texts}


def test_a_changed_weight_or_field_is_refused(learned, folder):
    source = learned()
    folder.mkdir()
    html.write(source, folder, "f32")
    path = next(folder.glob("*.html"))
    page = path.read_text()
    for old, new in (
        ('"softcap": 15.0', '"softcap": 30.0'),
        ('"digits": 1', '"digits": 3'),
        ('id="weights">AA', 'id="weights">zz'),
    ):
        changed = (
            page.replace(old, new, 1)
            if old in page
            else page.replace('id="weights">', 'id="weights">AAAA', 1)
        )
        assert changed != page
        path.write_text(changed)
        with pytest.raises((DataError, ValueError)):
            html.check(source, folder, "f32")


def test_models_that_no_page_holds_are_refused_in_a_sentence(learned, folder, monkeypatch):
    extended = learned("modern", steps=0)
    longer = replace(extended.model.config, yarn_factor=2.0, yarn_context=64)
    monkeypatch.setattr(extended.model, "config", longer)
    with pytest.raises(RecipeError, match="extend"):
        export(extended, "html", folder)
    monkeypatch.undo()
    monkeypatch.setattr(html, "MOST_BYTES", 1000)
    for preset, other in (("classic", "gguf"), ("modern", "hf")):
        with pytest.raises(RecipeError, match=f"Export with `{other}`"):
            export(learned(preset, steps=0), "html", folder)
    assert not folder.exists()


@pytest.mark.browser
def test_the_page_answers_from_a_file(learned, folder, chromium):
    source = learned()
    export(source, "html", folder, "f32")
    asked = prompts(source)
    page = chromium.new_page()
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(next(folder.glob("*.html")).as_uri())
    page.get_by_label("Message").fill("Hello!")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("tokens,").wait_for()
    assert page.locator(".assistant").last.inner_text() == "Good day to you."
    assert page.evaluate(IN_PAGE, [asked, TOKENS]) == answers(source, asked)  # 50 of 50
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("locale", "send"), [("de-AT", "Senden"), ("zh-CN", "发送"), ("fr", "Send")]
)
def test_the_page_speaks_the_browsers_language(learned, folder, chromium, locale, send):
    export(learned(), "html", folder, "f32")
    context = chromium.new_context(locale=locale)
    page = context.new_page()
    page.goto(next(folder.glob("*.html")).as_uri())
    assert page.locator("button").inner_text() == send
    assert not re.search(r"[{}$]", page.inner_text("body"))
    context.close()
