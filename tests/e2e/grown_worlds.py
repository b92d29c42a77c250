# ruff: noqa: SIM905 - columns of words read better than lists of strings
"""Made-up worlds for `chatling grow`, and how well what is grown of them answers: three that are
made here, and six in `worlds` by authors who had not seen the program.

`python tests/e2e/grown_worlds.py [--seed N] [--minutes N] [WORLD…]` grows an assistant of each in
`CHATLING_HOME`, writes its answers to `worlds/<run>.answers.jsonl` there and prints a table. A
world that was grown before is only asked again. `--conversations N` trains on so many, whatever the
machine does in these minutes; `--origin` continues a run. Nothing here uses the language packs:
names, frames and synonyms are the test's own.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

NAME = "Quinta"


@dataclass
class World:
    """Files, and the questions about them: the words of each, and what its answer must hold."""

    language: str
    unknown: str  # part of the honest answer
    frames: tuple[str, ...]  # around a question without its mark
    synonyms: tuple[tuple[str, str], ...]
    who: tuple[str, ...]  # asks its name
    untold: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    facts: list[tuple[str, str]] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)  # one for each fact
    strangers: tuple[str, ...] = ()


def club(rng: Random) -> World:
    """A rowing club: 29 notes in English, and a table of members."""
    world = World(
        "en",
        "don't know",
        ("could anyone say {q}", "quickly please, {q}", "hello again, {q}", "{q}, if I may ask"),
        (
            ("looks after", "takes care of"),
            ("lies", "is kept"),
            ("built", "made"),
            ("phone", "number"),
        ),
        (
            *("what's your name then?", "and you are called?", "tell me who you are"),
            *("could I have a name to call you by?", "state your name", "who's on the line?"),
            *("what do your friends call you", "hi! whom am I chatting to?"),
        ),
        ("What is the blood type of {s}?", "What does {s} have for breakfast?"),
        strangers=(
            "Osprey",
            "Bittern",
            "Gannet",
            "Lapwing",
            "Dunlin",
            "Wigeon",
            "Plover",
            "Avocet",
        ),
    )
    boats = "Swan Heron Egret Curlew Merlin Kestrel Falcon Raven Magpie Linnet Siskin Wren".split()
    people = (
        "Mara Tobias Elif Greta Hamid Lotte Niels Oona Pedro Ruth Sven Tamsin Vito Wanda".split()
    )
    boats += "Jackdaw Dipper Thrush Martin Starling Robin Finch Bunting Pipit Nuthatch".split()
    boats += "Goldcrest Redstart Fieldfare Whinchat Stonechat Crossbill Sandpiper".split()
    docks = "north dock|boat hall|old shed|far pier|green barn|river gate|upper landing".split("|")
    for boat in boats[:29]:
        keeper, dock, year = rng.choice(people), rng.choice(docks), rng.randint(1950, 2020)
        world.files[f"{boat.lower()}.md"] = (
            f"# The {boat}\n\n{keeper} looks after the {boat}. The {boat} lies in the {dock}.\n\n"
            f"- built: {year}\n- seats: {rng.choice((2, 4, 8))}\n"
        )
        world.facts += [
            (f"Who looks after the {boat}?", keeper),
            (f"Where does the {boat} lie?", dock),
            (f"When was the {boat} built?", str(year)),
        ]
        world.subjects += [boat] * 3
    rows = [
        (name, f"555-{rng.randint(1000, 9999)}", rng.choice(("bow", "stroke", "cox", "coach")))
        for name in people
    ]
    table = "Name,Phone,Seat\n" + "".join(",".join(row) + "\n" for row in rows)
    world.files["members.csv"] = table
    for name, phone, seat in rows:
        world.facts += [(f"What is the phone of {name}?", phone), (f"What is {name}'s seat?", seat)]
        world.subjects += [name] * 2
    return world


def shop(rng: Random) -> World:
    """A shop for tools: 150 questions and answers in German."""
    world = World(
        "de",
        "weiß ich",
        (
            "na gut, {q}",
            "hallo nochmal, {q}",
            "{q}, wenn ich fragen darf",
            "jetzt mal ehrlich, {q}",
        ),
        (("kostet", "macht"), ("Farbe", "Lackierung"), ("repariert", "flickt"), ("liegt", "steht")),
        (
            *("und dein Name?", "wie nennst du dich?", "mit wem schreibe ich hier?"),
            *("wie darf man dich rufen?", "mit welchem Namen spreche ich dich an?"),
            *(
                "wer ist am Apparat?",
                "sag mal, wie heißt du eigentlich",
                "hat der Bot einen Namen?",
            ),
        ),
        ("Wie schwer ist {s}?", "Welches Land stellt {s} her?"),
        strangers=("Fräse", "Kelle", "Raspel", "Wasserwaage", "Winde", "Presse", "Esse", "Egge"),
    )
    goods = "Hobel Feile Meißel Lötkolben Amboss Bohrer Schleifer Spaten Rechen Axt Sichel".split()
    goods += "Schubkarre Säge Zange Leiter Schraubstock Nagler Tacker Spachtel Pinsel".split()
    goods += "Malerrolle Kreissäge Stichsäge Heißluftpistole Gießkanne Harke Hacke".split()
    goods += "Sense Kettensäge Rasenkante".split()
    rows = []
    for good in goods[:30]:
        told = {
            f"Was kostet {good}?": f"{good} kostet {rng.randint(5, 300)} Euro.",
            f"Welche Farbe hat {good}?": f"{good} ist {rng.choice(('rot', 'grün', 'blau'))}.",
            f"Wer repariert {good}?": f"Das macht {rng.choice(('Ilse', 'Jost', 'Maik'))}.",
            f"Wo liegt {good}?": f"{good} liegt in Regal {rng.randint(1, 60)}.",
            f"Wie lange gilt Garantie für {good}?": f"{rng.randint(1, 9)} Jahre.",
        }
        rows += list(told.items())
        world.facts += list(told.items())
        world.subjects += [good] * len(told)
    text = "".join(f'"{q}";"{a}"\n' for q, a in rows)
    world.files["fragen.csv"] = "Frage;Antwort\n" + text
    return world


def family(rng: Random) -> World:
    """A family: 150 conversations in Chinese, every third of two turns."""
    world = World(
        "zh",
        "不知道",
        ("随便问问，{q}", "又来了，{q}", "{q}，说来听听", "帮个忙，{q}"),
        (("放在", "收在"), ("喜欢", "爱"), ("住在", "家在"), ("哪里", "什么地方")),
        (
            *("你的大名？", "跟我聊天的是谁？", "该叫你什么好？", "你姓甚名谁？", "喂，你哪位？"),
            *("平时大家喊你什么？", "能说说你叫啥吗", "我面前的是谁？"),
        ),
        ("{s}的血型是什么？", "{s}几点起床？"),
        strangers=("曾祖父", "邻居老高", "班主任", "房东", "理发师", "教练", "快递员", "园丁"),
    )
    people = "爷爷 奶奶 外公 外婆 爸爸 妈妈 大伯 叔叔 姑姑 舅舅".split()
    people += "姨妈 哥哥 姐姐 弟弟 妹妹 表哥 表姐 堂弟 堂妹 嫂子".split()
    towns = "苏州 杭州 南京 成都 西安 厦门 青岛 昆明 大连 桂林".split()
    foods = "饺子 面条 米饭 馒头 豆腐 烤鸭 汤圆 春卷 红烧肉 酸菜鱼".split()
    jobs = "老师 司机 画家 会计 护士 木匠 记者 厨师 学生 裁缝".split()
    rows = []
    for who in people:
        town, food, job = rng.choice(towns), rng.choice(foods), rng.choice(jobs)
        first = (f"{who}住在哪里？", f"{who}住在{town}。")
        rows += [[*first, "那里远吗？", f"去{town}要坐{rng.randint(2, 9)}个小时车。"]]
        for pair in (
            (f"{who}喜欢吃什么？", f"{who}喜欢吃{food}。"),
            (f"{who}做什么工作？", f"{who}是{job}。"),
        ):
            rows.append(list(pair))
            world.facts.append(pair)
            world.subjects.append(who)
        world.facts.append(first)
        world.subjects.append(who)
    things = "车钥匙 护照 相册 户口本 充电器 手电筒 药箱 针线盒 指甲刀 遥控器".split()
    things += "体温计 胶水 剪刀 茶叶 酱油 米缸 旧书 毛笔 象棋 风筝".split()
    things += "雨靴 围巾 手套 帽子 水壶 饭盒 书包 球拍 跳绳 口琴".split()
    things += "地图 邮票 信封 日历 闹钟 台灯 电池 灯泡 螺丝刀 卷尺".split()
    spots = "门后面 床底下 书柜里 抽屉里 阳台上 厨房里 箱子里 鞋柜上 窗台上".split()
    for thing in things:
        pairs = [
            (f"{thing}放在哪里？", f"{thing}在{rng.choice(spots)}。"),
            (f"{thing}是谁买的？", f"{thing}是{rng.choice(people)}买的。"),
        ]
        rows += [list(pair) for pair in pairs]
        world.facts += pairs
        world.subjects += [thing] * 2
    talks = [
        {
            "messages": [
                {"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(row)
            ]
        }
        for row in rows
    ]
    world.files["talks.jsonl"] = "".join(json.dumps(t, ensure_ascii=False) + "\n" for t in talks)
    return world


WORLDS: dict[str, Callable[[Random], World]] = {"club": club, "shop": shop, "family": family}
WRITTEN = Path(__file__).parent / "worlds"
Asked = tuple[str, tuple[str, ...], str]  # what it tests, the user's turns, what must be answered


def questions(world: World, rng: Random) -> Iterator[Asked]:
    """At most 60 of each kind."""
    some = rng.sample(range(len(world.facts)), min(60, len(world.facts)))
    for i in some:
        question, key = world.facts[i]
        yield "as told", (question,), key
        anew = typed(world, question, rng)
        yield "rephrasing A", (anew,), key
        other = world.facts[rng.randrange(len(world.facts))][0]
        yield "A, second turn", (other, anew), key
        told = [pair for pair in world.synonyms if pair[0] in question]
        if told:
            yield "rephrasing B", (question.replace(*rng.choice(told)),), key
        strange = question.replace(world.subjects[i], rng.choice(world.strangers))
        yield "unknown", (strange,), world.unknown
        untold = rng.choice(world.untold).format(s=world.subjects[i])
        yield "untold attribute", (untold,), world.unknown
    for text in world.who:
        yield "its name", (text,), NAME


def typed(world: World, question: str, rng: Random) -> str:
    """The same content words in another frame, order and case, or with a typo."""
    bare, luck = question.rstrip("?？"), rng.random()
    if luck < 0.6:
        return rng.choice(world.frames).format(q=bare[:1].lower() + bare[1:])
    if luck < 0.75:
        return question.lower() if rng.random() < 0.7 else question.upper()
    if luck < 0.9 and world.language != "zh":  # the last word first
        words = bare.split()
        return " ".join((words[-1], *words[:-1])) + "?"
    places = [i for i in range(1, len(bare) - 1) if bare[i].isalpha() and bare[i + 1].isalpha()]
    at = rng.choice(places)
    return question[:at] + question[at + 1] + question[at] + question[at + 2 :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    written = sorted(path.name for path in WRITTEN.iterdir())
    parser.add_argument("worlds", nargs="*", choices=[*WORLDS, *written, []], default=[])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", default="10")
    parser.add_argument("--conversations", type=int)
    parser.add_argument("--origin")
    given = parser.parse_args()
    table = []
    for name in given.worlds or WORLDS:
        run = f"{name}-{given.seed}" + ("-continued" if given.origin else "")
        if name in WORLDS:
            world = WORLDS[name](Random(f"{name} {given.seed}"))
            files, asked = world.files, list(questions(world, Random(given.seed)))
        else:
            files, asked = written_world(WRITTEN / name)
        rates = grown(files, asked, run, given.minutes, given.conversations, given.origin)
        table += [(run, kind, f"{right / asked:.1%}", str(asked)) for kind, (right, asked) in rates]
    print("\n".join("  ".join(row) for row in table))


def written_world(folder: Path) -> tuple[dict[str, str], list[Asked]]:
    """Files, and the questions about them."""
    files = {path.name: path.read_text("utf-8") for path in sorted((folder / "files").iterdir())}
    lines = (folder / "questions.jsonl").read_text("utf-8").splitlines()
    rows = map(json.loads, lines)
    return files, [(row["kind"], tuple(row["turns"]), row["key"]) for row in rows]


def grown(
    files: dict[str, str],
    questions: list[Asked],
    run: str,
    minutes: str,
    conversations: int | None,
    origin: str | None,
) -> list[tuple[str, tuple[int, int]]]:
    """(kind, (right, asked)) of an assistant grown of a world's files."""
    from chatling.cli import main as chatling
    from chatling.llm import LLM
    from chatling.run_dir import home

    folder = home() / "worlds" / run
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    record = home() / "data" / run / "grow.json"
    if conversations and not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        sizes = {"minutes": float(minutes), "origin": origin, "conversations": conversations}
        record.write_text(json.dumps(sizes))
    words = ["grow", str(folder), "--name", NAME, "--run", run, "--minutes", minutes, "--no-chat"]
    if code := chatling(words + (["--origin", origin] if origin else [])):
        raise SystemExit(code)
    model, rates, rows = LLM(run), defaultdict[str, list[int]](lambda: [0, 0]), list[object]()
    for kind, turns, key in questions:
        talk: list[dict[str, object]] = []
        for turn in turns:
            answer = model.chat([*talk, {"role": "user", "content": turn}])
            talk += [{"role": "user", "content": turn}, model.message(answer)]
        right = key.lower() in answer.text.lower()
        rows.append((kind, right, turns, answer.text, key))
        rates[kind][0] += right
        rates[kind][1] += 1
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (home() / "worlds" / f"{run}.answers.jsonl").write_text("".join(lines), encoding="utf-8")
    return [(kind, (right, asked)) for kind, (right, asked) in rates.items()]


if __name__ == "__main__":
    main()
