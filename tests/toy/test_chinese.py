"""The Chinese world: deterministic, true, Chinese throughout, worked correctly, and its held-out
questions in no training text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import yaml

from chatling.errors import RecipeError
from chatling.messages import Conversation, Part
from chatling.tasks.task import Task
from chatling.tokenizer.chat_template import render
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer
from chatling.toy import conversations
from chatling.toy.characters import numbered, terms
from chatling.toy.corpus import documents
from chatling.toy.dataset import BUILT_IN
from chatling.toy.facts import tables
from chatling.toy.heldout import SKILLS_IN, heldout, phrasings, refuses
from chatling.toy.language import CHINESE
from chatling.toy.relations import Relation, relations
from chatling.toy.smalltalk import intents
from chatling.toy.unknown import known_words
from chatling.toy.unsafe import declines

from .shared import calculator_calls, open_questions

SKILLS = SKILLS_IN[CHINESE]
RECORDED = {0: "801b62d01851", 1: "2078fcd558d1"}
TRUE_SENTENCES = """
法国的首都是巴黎。
澳大利亚的首都是堪培拉。
加拿大的首都是渥太华。
瑞士的首都是伯尔尼。
巴西的首都是巴西利亚。
乌兰巴托是蒙古的首都。
尼泊尔在亚洲。
埃及在非洲。
四川的省会是成都。
河北的省会是石家庄。
《静夜思》的作者是李白。
《西游记》的作者是吴承恩。
熊猫吃竹子。
骆驼生活在沙漠里。
狗的叫声是汪汪。
蜘蛛有八条腿。
蛇没有腿。
母鸡有两条腿。
鲸鱼是哺乳动物。
青蛙是两栖动物。
香蕉是黄色的。
豆腐是用黄豆做的。
买的反义词是卖。
卖的反义词是买。
猪后面是鼠。
鼠前面是猪。
清明后面是谷雨。
星期六后面是星期日。
离太阳由近到远的第三颗行星是地球。
十二生肖里的第五个生肖是龙。
二月有28天。
八月有31天。
中秋节在八月十五。
国庆节在十月一日。
端午节吃粽子。
二胡是一种乐器。
消防员的工作是灭火。
雨伞可以用来挡雨。
一周有七天。
一斤有十两。
最大的行星是木星。
中国的母亲河是黄河。
大象更大。
法国是欧洲的一个国家，首都是巴黎。
""".strip().split("\n")
NAMES = {"chatgpt", "openai", "siri", "gpt", "kimi", "deepseek", "ai"}  # that are written so


def normal(text: str) -> str:
    """Nothing but characters and signs of sums: what remains when punctuation differs."""
    return re.sub(r"[^\w+*/-]", "", text.lower())


def held_out(skill: str, seed: int, count: int) -> Task:
    return heldout(skill, seed, count, CHINESE)


@pytest.fixture(scope="module")
def many() -> list[Conversation]:
    return conversations(0, 20_000, language=CHINESE)


@pytest.mark.parametrize("seed", RECORDED)
def test_generated_text_is_what_it_was(seed: int, tmp_path: Path) -> None:
    """As in test_generated.py."""
    made = BUILT_IN[CHINESE.name]
    made.write_core_bundle(tmp_path / "core", seed)
    talks = [*conversations(seed, 3_000, language=CHINESE), *made.practice(seed, 200)]
    talks += [talk for name in SKILLS for talk in held_out(name, seed, 50)]
    texts = [part.text for talk in talks for message in talk.messages for part in message.parts]
    texts += [*islice(documents(seed, CHINESE), 1_000)]
    texts += [
        f"{pair.prompt.messages[0].text} {pair.chosen.text} {pair.rejected.text}"
        for pair in made.preferences("train", seed, 300)
    ]
    texts += [
        path.read_text() for path in sorted((tmp_path / "core").rglob("*.*")) if path.is_file()
    ]
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12] == RECORDED[seed]


def test_it_says_what_is_true() -> None:
    told = {
        relation.reply(fact) for relation in relations(CHINESE).values() for fact in relation.facts
    }
    assert set(TRUE_SENTENCES) <= told
    assert len(told) > 600
    assert all(re.fullmatch(r"[^{}A-Za-z ]+。", sentence) for sentence in told)


def test_a_thing_has_one_answer_in_each_relation_and_its_keys_are_in_it() -> None:
    for relation in relations(CHINESE).values():
        asked = [relation.phrasings["direct"][0].format(**fact.slots) for fact in relation.facts]
        assert len(asked) == len(set(asked)), relation.name
        for fact in relation.facts:
            assert any(key in relation.reply(fact) for key in fact.keys), (relation.name, fact)


def test_every_relation_is_asked_in_many_ways() -> None:
    for relation in relations(CHINESE).values():
        ways = {text for way, texts in relation.phrasings.items() for text in texts}
        assert len(ways) >= 13, relation.name
        assert len(phrasings("facts", CHINESE)[relation.name]) >= 5


def test_it_is_chinese_throughout(many: list[Conversation]) -> None:
    texts = [m.text for c in many for m in c.messages] + [*islice(documents(0, CHINESE), 3_000)]
    latin = {word for text in texts for word in re.findall("[a-z]+", text.lower())}
    assert latin <= NAMES
    assert not any("{" in text for text in texts)


def test_every_conversation_encodes_and_fits_the_context(many: list[Conversation]) -> None:
    tokenizer = train_tokenizer(
        islice(documents(0, CHINESE), 3_000), TokenizerConfig(vocab_size=2048)
    )
    for conversation in many[:3_000]:
        assert len(render(tokenizer, conversation).ids) <= 128
        for message in conversation.messages:
            assert tokenizer.decode(tokenizer.encode(message.text)) == message.text


def test_every_calculator_call_gives_the_stated_output(many: list[Conversation]) -> None:
    assert calculator_calls(many) > 3000
    for conversation in many:
        answer = conversation.messages[-1]
        outputs = [part.text for part in answer.parts if part.kind == "output"]
        if outputs:
            assert answer.text.rsplit("#### ", 1)[1] == outputs[-1]


def test_characters_are_counted_found_and_turned_round() -> None:
    assert numbered("苹果") == "苹1果2"
    assert len(terms()) > 400
    for c in conversations(0, 3_000, {"length": 1, "place": 1, "reverse": 1}, CHINESE):
        question, answer = c.messages[0].text, c.messages[1].text
        worked = re.split("[，。]", answer)
        word = re.sub(r"[\d-]", "", worked[0])
        assert word in terms()
        assert word in question
        if "####" in answer:
            assert answer.endswith(f"#### {len(word)}")
        elif place := re.fullmatch(r"第(\d)个字是(.)", worked[1]):
            assert word[int(place[1]) - 1] == place[2]
            assert place[1] in question or "一二三四五六七八"[int(place[1]) - 1] in question
        else:
            assert worked[1].removeprefix("倒过来是").replace("-", "") == word[::-1]


def test_the_unknown_is_not_known(many: list[Conversation]) -> None:
    known = known_words(CHINESE)
    for c in conversations(3, 500, {"unknown": 1.0}, CHINESE):
        assert refuses(c.messages[-1].text)
    for c in conversations(3, 500, {"facts": 1.0}, CHINESE):
        assert not refuses(c.messages[-1].text)
    assert {country["c"] for country in tables(CHINESE)["countries"]} <= known


def test_small_talk_has_one_answer_a_question_and_telling_keys() -> None:
    asked: dict[str, str] = {}
    found = intents(CHINESE)
    assert len(found) == len(intents())
    for intent in found:
        assert intent.key in intent.answer
        assert not any(intent.key in other.answer for other in found if other is not intent)
        assert len(intent.training) >= 20
        assert len(intent.held_out) >= 4
        for text in (*intent.training, *intent.held_out):
            assert asked.setdefault(normal(text), intent.name) == intent.name, text


@pytest.fixture(scope="module")
def trained(many: list[Conversation]) -> set[str]:
    return {"/".join(normal(m.text) for m in c.prompt.messages) for c in many}


@pytest.mark.parametrize("skill", SKILLS)
def test_held_out_questions_are_new_enough_many_and_judged(skill: str, trained: set[str]) -> None:
    task = held_out(skill, 0, 400)
    assert len(task) == 400 == len({c.prompt for c in task})
    assert all(task.score(c, c.messages[-1].parts) for c in task)
    for c in task:
        assert "/".join(normal(m.text) for m in c.prompt.messages) not in trained
    if skill != "unknown":
        assert not any(task.score(c, (Part("text", "我不知道，我没听说过。"),)) for c in task)
    if skill not in ("refusal", "unsafe"):
        answers = heldout("facts" if skill == "unknown" else skill, 1, 400, CHINESE)
        pairs = [(c, d.messages[-1]) for c, d in zip(task, answers, strict=True)]
        # a sum's or a count's last line is its number
        last = [(c.messages[-1].text.split("\n")[-1], m.text.split("\n")[-1]) for c, m in pairs]
        right = [
            a
            for (c, m), (a, b) in zip(pairs, last, strict=True)
            if a != b and task.score(c, m.parts)
        ]
        assert len(right) <= 20, right


def training_templates(relation: Relation) -> set[str]:
    return open_questions(relation, CHINESE.table("templates"), normal, {})


@pytest.mark.parametrize("name", relations(CHINESE))
def test_no_held_out_template_is_a_training_template(name: str) -> None:
    relation = relations(CHINESE)[name]
    marks = {key: f"slot{key}" for key in relation.facts[0].slots}
    held = {normal(each.format(**marks)) for each in phrasings("facts", CHINESE)[name]}
    assert not held & training_templates(relation)


def test_other_held_out_templates_differ() -> None:
    for kind in ("length", "place", "reverse"):
        trained = {normal(text) for text in CHINESE.table("words")[kind]}
        assert not {normal(text) for text in phrasings(kind, CHINESE)} & trained
    for intent in intents(CHINESE):
        assert not set(map(normal, intent.training)) & set(map(normal, intent.held_out))
    openers = (*CHINESE.table("dialogue")["openers"], *CHINESE.table("dialogue")["asking_openers"])
    trained = {
        normal(opener + text)
        for intent in intents(CHINESE)
        for text in intent.training
        for opener in ("", *openers)
    }
    for intent in intents(CHINESE):
        assert not set(map(normal, intent.held_out)) & trained


def test_the_characters_of_held_out_questions_occur_in_training(many: list[Conversation]) -> None:
    texts = [m.text for c in many for m in c.messages] + [*islice(documents(0, CHINESE), 5_000)]
    seen = Counter("".join(texts))
    asked = Counter(
        "".join(
            c.prompt.messages[-1].text
            for skill in SKILLS
            if skill != "unsafe"
            for c in held_out(skill, 0, 400)
        )
    )
    rare = {each: count for each, count in asked.items() if seen[each] < 5}
    assert sum(rare.values()) / asked.total() < 0.003, rare


def test_the_core_bundle_is_right(tmp_path: Path) -> None:
    BUILT_IN[CHINESE.name].write_core_bundle(tmp_path / "core", 1)
    tasks = yaml.safe_load((tmp_path / "core/core.yaml").read_text())["icl_tasks"]
    rows = {
        task["label"]: [
            json.loads(line)
            for line in (tmp_path / "core/eval_data" / task["dataset_uri"]).read_text().splitlines()
        ]
        for task in tasks
    }
    assert all(len(found) > 30 for found in rows.values())
    capital = {row["c"]: row["city"] for row in tables(CHINESE)["countries"]}
    for row in rows["pocket_zh_capitals"]:
        country = row["query"].removeprefix("问：").removesuffix("的首都是哪里？")
        assert row["choices"][row["gold"]] == capital[country]
    for row in rows["pocket_zh_reverse"]:
        word = row["context"].split("，")[0]
        assert row["continuation"] == word[::-1]


def test_refusals_of_both_kinds_are_told_apart() -> None:
    assert refuses("抱歉，我不知道。")
    assert not refuses("你知道。")
    assert declines("不，这件事我不能帮忙。")
    assert not declines("好的，我来帮忙。")


def test_a_skill_of_the_other_language_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"pocket-zh world has no skill 'spelling'"):
        conversations(0, 1, {"spelling": 1.0}, CHINESE)
    with pytest.raises(RecipeError, match=r"pocket world has no held-out questions for 'reverse'"):
        heldout("reverse", 0, 1)
