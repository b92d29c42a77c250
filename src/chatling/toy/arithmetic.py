"""Word problems answered through the calculator: one step, two steps, and a hard split of unseen
two-step templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from zlib import crc32

from chatling.messages import Conversation, Message, Part
from chatling.toy import stories

NAMES = ("Tom", "Mia", "Ben", "Anna", "Sam", "Lily", "Max", "Emma", "Leo", "Nora", "Jack", "Ella")
ITEMS = (
    "apples",
    "books",
    "coins",
    "pens",
    "balls",
    "eggs",
    "cards",
    "stones",
    "cakes",
    "flowers",
    "shells",
    "toys",
)
HELD_OUT_ONE_IN = 5


@dataclass(frozen=True)
class Problem:
    """A story template over the numbers a, b, c, the name n, another name m and the items i;
    `steps` are expressions in which x is the result of the step before.
    """

    story: str
    steps: tuple[str, ...]


def _problems(table: str) -> tuple[Problem, ...]:
    """One problem a line: "a+b; x*c | story"."""
    rows = (line.split(" | ") for line in table.strip().split("\n"))
    return tuple(Problem(story, tuple(steps.split("; "))) for steps, story in rows)


ONE_STEP = _problems("""
a+b | {n} has {a} {i} and gets {b} more. How many {i} does {n} have now?
a+b | {n} has {a} {i}. {m} has {b} {i}. How many {i} do they have together?
a+b | {n} has {a} old {i} and {b} new ones. How many {i} does {n} have?
a+b | {n} finds {a} {i} and then {b} more {i}. How many {i} is that?
a+b | There are {a} {i} in a box. {n} puts in {b} more. How many {i} are in the box?
a+b | {n} buys {a} {i} on Monday and {b} {i} on Tuesday. How many {i} did {n} buy in all?
a+b | {m} gives {n} {b} {i}. {n} had {a} {i} before. How many {i} does {n} have now?
a+b | What is {a} plus {b}?
a+b | {a} + {b} = ?
a+b | Add {a} and {b}.
a+b | How much is {a} and {b}?
a+b | What is the sum of {a} and {b}?
a-b | {n} has {a} {i} and gives {b} to {m}. How many {i} are left?
a-b | {n} had {a} {i} and lost {b}. How many {i} does {n} have now?
a-b | There are {a} {i} on the table. {n} takes {b} away. How many {i} are left on the table?
a-b | {n} has {a} {i}. {m} has {b} {i}. How many more {i} does {n} have?
a-b | {n} has {a} {i} and sells {b}. How many {i} remain?
a-b | From {a} {i}, {b} are used up. How many {i} are left over?
a-b | What is {a} minus {b}?
a-b | {a} - {b} = ?
a-b | Take {b} away from {a}.
a-b | How much is {a} less {b}?
a*b | {n} has {a} boxes with {b} {i} in each. How many {i} does {n} have?
a*b | There are {a} bags. Each bag holds {b} {i}. How many {i} are there?
a*b | {n} buys {b} {i} every day for {a} days. How many {i} is that?
a*b | {a} children have {b} {i} each. How many {i} do they have together?
a*b | {n} puts {b} {i} in each of {a} rows. How many {i} are there in all?
a*b | What is {a} times {b}?
a*b | {a} * {b} = ?
a*b | Multiply {a} by {b}.
a*b | How much is {a} times {b}?
a/b | {n} shares {a} {i} equally among {b} friends. How many {i} does each friend get?
a/b | {n} puts {a} {i} into {b} equal bags. How many {i} are in each bag?
a/b | {a} {i} are split between {b} children. How many {i} does each child get?
a/b | {n} has {a} {i} and packs {b} in each box. How many boxes are needed?
a/b | What is {a} divided by {b}?
a/b | {a} / {b} = ?
a/b | Divide {a} by {b}.
""")

TWO_STEPS = _problems("""
a+b; x-c | {n} has {a} {i} and gets {b} more. Then {n} gives {c} to {m}. How many {i} are left?
a-b; x+c | {n} has {a} {i} and loses {b}. Then {n} finds {c} more. How many {i} does {n} have now?
a+b; x+c | {n} has {a} {i}. {n} buys {b} more and {m} gives {n} {c} more. How many {i} does {n} have now?
a-b; x-c | {n} has {a} {i}. {n} sells {b} and gives {c} to {m}. How many {i} are left?
a*b; x+c | {n} has {a} boxes with {b} {i} in each and {c} more {i}. How many {i} does {n} have?
a*b; x-c | {n} has {a} bags with {b} {i} in each. {n} gives {c} {i} away. How many {i} are left?
a+b; x*c | {n} gets {a} {i} and {b} coins every day for {c} days. How many things is that in all?
a/b; x+c | {n} shares {a} {i} equally among {b} friends. {m} is one of them and had {c} {i} before. How many {i} does {m} have now?
a+b; x-c | A basket holds {a} red {i} and {b} blue ones. {n} picks out {c}. How many {i} stay in the basket?
a+b; x-c | {n} is given {b} dollars on top of the {a} already saved, and pays {c} for a game. How much money is left?
a+b; x+c | {m} owns {b} {i}, {n} owns {a} and Grandma owns {c}. How many {i} do the three of them own?
a+b; x+c | Count the {i} of {n}: {a} white, {b} black and {c} green. What is the total?
a-b; x-c | A shop has {a} {i}. It sells {b} before noon and {c} after noon. How many {i} does the shop still have?
a-b; x-c | {n} gave {b} {i} to {m} and {c} to a neighbour. At the start there were {a}. How many {i} did {n} keep?
a-b; x-c | A bus carries {a} people. At the school {b} get off, and {c} more leave at the park. How many people are still on the bus?
a-b; x+c | A shelf is filled with {a} {i}. {n} clears away {b} and later adds {c}. How many {i} does the shelf hold?
a-b; x+c | This morning {a} birds sat on a roof. Then {b} flew off, but {c} others landed there. How many birds sit on the roof now?
a*b; x+c | Besides {c} loose {i}, {n} owns {a} packs of {b}. Find the total number of {i}.
a*b; x+c | {n} earns {b} dollars an hour and works {a} hours. {m} adds a tip of {c} dollars. How much did {n} earn?
a*b; x-c | A theatre has {a} rows of {b} seats. If {c} seats are taken, how many seats are free?
a*b; x-c | {n} bakes {a} trays of {b} rolls and the family eats {c}. How many rolls can {n} sell?
a+b; x*c | One ticket costs {a} dollars plus a fee of {b} dollars. What do {c} tickets cost?
a+b; x*c | Every week {n} reads {a} pages in bed and {b} on the bus. How many pages does {n} read in {c} weeks?
a-b; x*c | A coat usually costs {a} dollars but is {b} dollars cheaper today. How much do {c} of these coats cost today?
a-b; x*c | A bus has {a} seats, of which {b} are broken. How many people can sit down in {c} such buses?
a/b; x+c | A ride of {a} miles is cut into {b} equal parts. {n} finishes one part and rides {c} miles more. How many miles is that?
a/b; x*c | If {b} tickets cost {a} dollars, how much do {c} tickets cost?
a/b; x*c | A machine makes {a} {i} in {b} hours. How many {i} does it make in {c} hours?
a/b; x-c | {n} spreads {a} pages evenly over {b} days. Today {c} pages are done. How many pages remain for today?
a+b; x/c | {n} brings {a} {i} and {m} brings {b}. They hand all of them out equally to {c} children. How many {i} does each child get?
a+b; x/c | A class has {a} girls and {b} boys. They form {c} equal teams. How many children are in each team?
a-b; x/c | {n} baked {a} cookies, but {b} burned. The rest go onto {c} plates, the same number on each. How many cookies are on one plate?
a-b; x/c | {n} had {a} dollars and spent {b} on a book. The rest paid for {c} equal gifts. How much did one gift cost?
a*b; x/c | Someone hands out {a} sacks of {b} {i} evenly to {c} people. How many {i} does one person receive?
a*b; x/c | A garden has {a} rows of {b} trees. If {c} workers share the trees equally, how many trees does each worker water?
a/b; x/c | {n} lays {a} {i} on {b} tables, equally many on each. At one table {c} children share them fairly. What does each child get?
""")

HARD_TRAIN = _problems("""
a+b; x-c | There are {a} {i} in a box and {b} {i} on the table. {n} takes {c} of them. How many {i} are left?
a-b; x+c | {n} had {a} {i}, lost {b} on Monday and got {c} on Tuesday. How many {i} does {n} have now?
a+b; x+c | {n} finds {a} {i} on Monday, {b} on Tuesday and {c} on Friday. How many {i} is that in all?
a*b; x+c | There are {a} bags. Each bag holds {b} {i}. {n} puts {c} more {i} on the table. How many {i} are there?
a*b; x-c | {a} children have {b} {i} each. They give {c} {i} to {n}. How many {i} do they have now?
a+b; x*c | A box holds {a} {i} and a bag holds {b} {i}. {n} has {c} of each. How many {i} does {n} have?
a-b; x*c | {n} buys {a} {i} every day and sells {b} of them. How many {i} does {n} have after {c} days?
a*b; x+c | {n} has {c} {i}. {m} brings {a} boxes with {b} {i} in each. How many {i} do they have together?
a+b; x-c | {n} had {a} {i} and {m} had {b}. Together they used up {c}. How many {i} are left over?
a/b; x-c | {n} splits {a} {i} into {b} equal bags, then takes {c} {i} from one bag. How many {i} are left in that bag?
a-b; x-c | A box with {a} {i} falls down. {b} break and {m} takes {c} home. How many {i} are in the box now?
a*b; x-c | For {a} days {n} finds {b} {i} a day. In the end {m} gets {c} of them. How many {i} does {n} have left?
a/b; x-c | {a} {i} go into {b} boxes, as many in each. {n} takes {c} out of the first box. How many {i} does it hold now?
a+b; x/c | {n} and {m} bring {a} and {b} {i}. They make {c} equal parts of them. How many {i} are in one part?
a*b; x/c | {a} boxes of {b} {i} are for {c} children. How many {i} does each child get, if all get the same?
a+b; x-c | To {a} {i} {n} adds {b} from home. After school {c} are gone. How many {i} are still there?
a*b; x+c | Every friend of {n} has {b} {i}. There are {a} friends, and {n} has {c} {i}. How many {i} do all of them have?
a*b; x-c | {a} boys find {b} {i} each. On the way home they lose {c} of them. How many {i} do they bring home?
a*b; x-c | Each of {a} girls has {b} {i}. {n} takes {c} of all the {i}. How many {i} do the girls have now?
a*b; x-c | {a} friends make {b} {i} each, and {c} of these {i} break. How many {i} are still good?
a*b; x-c | A teacher has {a} boxes with {b} {i}. She uses {c} {i} in school. How many {i} does she have now?
a*b; x-c | {n} sees {a} tables with {b} {i} on each. {m} takes {c} {i}. How many {i} does {n} see now?
a*b; x+c | {a} boys find {b} {i} each. On the way home they buy {c} more. How many {i} do they bring home?
a*b; x+c | There are {c} {i} on the table and {a} boxes of {b} {i} under it. How many {i} are there together?
a*b; x+c | {n} gets {c} {i} today. Before, {n} got {b} {i} a day for {a} days. How many {i} does {n} have in all?
a+b; x-c | {n} puts {a} red {i} and {b} blue {i} on a shelf. Then {m} takes {c} down. How many {i} are on the shelf?
a+b; x-c | {m} brings {a} {i} and {n} brings {b}. Later {c} {i} are gone. How many {i} are still there?
a+b; x-c | In the first box are {a} {i}, in the second {b}. {n} uses {c} of them. How many {i} remain?
a+b; x-c | {n} found {a} {i} and {m} found {b}. They gave {c} of them to the teacher. How many {i} did they keep?
a+b; x-c | {n} gets {a} {i} from school and {b} from home, and needs {c} for a game. How many {i} are left over?
a+b; x+c | {n} has {a} small {i}, {b} big {i} and {c} old {i}. How many {i} does {n} have together?
a+b; x+c | {n} brings {a} {i}, {m} brings {b} and the teacher brings {c}. How many {i} are there in all?
a+b; x+c | On the first day {n} makes {a} {i}, on the second {b} and on the third {c}. How many {i} is that?
a-b; x+c | {m} takes {b} {i} from a bag of {a} and puts {c} other {i} in. How many {i} are in the bag?
a-b; x+c | Of {a} {i} {b} are lost. {n} finds {c} more. How many {i} are there now?
a-b; x-c | There were {a} {i} in the shop. {b} were sold on Monday and {c} on Tuesday. How many {i} are still in the shop?
a+b; x*c | {n} finds {a} {i} and {m} finds {b} {i} every day. How many {i} do they find in {c} days?
a+b; x*c | Every child gets {a} red {i} and {b} green {i}. How many {i} do {c} children get?
a+b; x*c | {n} sells {a} {i} in the morning and {b} in the evening. How many {i} does {n} sell in {c} such days?
a-b; x*c | {n} takes {b} {i} out of each bag of {a}. How many {i} are left in {c} bags?
a/b; x+c | {n} and the other children, {b} in all, share {a} {i} equally. Then {m} gives {n} {c}. How many {i} does {n} have?
a/b; x-c | {n} shares {a} {i} equally with friends, so that {b} children have the same. Then {n} loses {c}. How many does {n} have?
a/b; x*c | {n} packs {a} {i} into {b} bags, the same number in each. How many {i} are in {c} bags?
a/b; x*c | {a} {i} are split into {b} equal bags. {m} buys {c} of the bags. How many {i} does {m} get?
a-b; x/c | Of {a} {i} {n} uses {b}. The rest is put into {c} bags, the same in each. How many {i} are in one bag?
a-b; x/c | {n} loses {b} of {a} {i} and shares the rest equally among {c} friends. How many {i} does each friend get?
""")

HARD_TEST = _problems("""
a+b; x-c | {n} puts {a} {i} in a bag and {m} puts in {b}. Then {c} are lost. How many {i} are in the bag?
a-b; x+c | {n} sells {b} of {a} {i}, then buys {c} new ones. How many {i} does {n} have now?
a-b; x-c | {m} takes {b} of the {a} {i} on the table and {n} takes {c}. How many {i} are left on the table?
a+b; x+c | There are {a} {i} in the first box, {b} in the second and {c} in the third. How many {i} are there in all?
a*b; x+c | {n} puts {b} {i} in each of {a} rows and has {c} left over. How many {i} does {n} have in all?
a*b; x-c | Each of {a} friends gets {b} {i}. Then they lose {c} {i}. How many {i} do they have together?
a*b; x-c | There are {a} boxes of {b} {i}. {m} sells {c} {i}. How many {i} remain?
a+b; x*c | Each child has {a} {i} at home and {b} {i} at school. There are {c} children. How many {i} is that?
a-b; x*c | {n} gets {a} {i} a day and gives {b} of them away. How many {i} is that in {c} days?
a*b; x+c | {m} finds {c} {i}. {n} has {a} bags and each bag holds {b} {i}. How many {i} are there together?
a+b; x-c | {n} has {a} {i} from Monday and {b} from Tuesday. {m} gets {c} of them. How many {i} does {n} have now?
a/b; x-c | {b} friends share {a} {i} equally. {n} is one of them and loses {c}. How many {i} does {n} have now?
a+b; x-c | {n} made {a} {i} and bought {b}. After {m} broke {c} of them, how many {i} were left?
a-b; x-c | {n} wants {a} {i} and has {b}. {m} brings {c} of those that are not there. How many {i} does {n} still need?
a-b; x+c | {m} used {b} of the {a} {i} in the box and put {c} back. How many {i} are in the box now?
a*b; x+c | {a} tables have {b} {i} on them each, and on the last one are {c}. How many {i} are on all the tables?
a*b; x-c | {n} buys {a} bags. There are {b} {i} in each, but {c} of all the {i} are old. How many new {i} does {n} have?
a+b; x*c | In one day {n} sells {a} {i} and {m} sells {b}. How many {i} do they sell in {c} days?
a-b; x*c | {c} baskets hold {a} {i} each. {n} takes {b} out of every basket. How many {i} are left in all baskets?
a/b; x+c | {n} has {c} {i}. Then {a} {i} are given to {b} children, as many to each, and {n} is one of them. How many {i} does {n} have now?
a/b; x*c | {n} packs {a} {i} in {b} bags, as many in each, and sells {c} bags. How many {i} does {n} sell?
a+b; x/c | {c} friends find {a} {i} in the garden and {b} on the way. They share them equally. How many {i} does each one get?
a-b; x/c | From {a} {i} {b} are broken. {n} puts the good ones in {c} bags, as many in each. How many {i} are in one bag?
a*b; x/c | {n} has {a} rows of {b} {i} and packs all of them in {c} equal boxes. How many {i} are in each box?
""")


HARD_STORIES = frozenset(problem.story for problem in (*HARD_TRAIN, *HARD_TEST))


def is_held_out(numbers: Sequence[int]) -> bool:
    """Number combinations kept for tests."""
    return crc32(",".join(map(str, numbers)).encode()) % HELD_OUT_ONE_IN == 0


def _numbers(problem: Problem, rng: Random) -> tuple[int, ...]:
    """Numbers whose every step is a whole number from 1 to 400."""
    first, second = problem.steps[0], problem.steps[-1] if len(problem.steps) > 1 else ""
    if first == "a*b":
        a, b = rng.randint(2, 12), rng.randint(2, 20)
    elif first == "a/b":
        b = rng.randint(2, 12)
        a = b * rng.randint(2, 12)
    else:
        a, b = rng.randint(2, 99), rng.randint(2, 99)
        if first == "a-b" and b >= a:
            a, b = (b, a) if a != b else (a + 5, b)
    if not second:
        return a, b
    so_far = apply(first, a, b)
    if "-" in second:
        return (a, b, rng.randint(1, so_far - 1)) if so_far > 1 else _numbers(problem, rng)
    if "/" in second:
        divisors = [c for c in range(2, 13) if so_far % c == 0]
        return (a, b, rng.choice(divisors)) if divisors else _numbers(problem, rng)
    return a, b, rng.randint(2, 9) if "*" in second else rng.randint(2, 60)


def apply(step: str, left: int, right: int) -> int:
    """One step in whole numbers."""
    operator = step[1]
    return {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[operator]


def problem_conversation(problem: Problem, rng: Random, held_out: bool) -> Conversation:
    """A problem told with names and numbers, and its worked answer: "12+7=" calculator "19
    apples.", then "#### 19".
    """
    numbers = _numbers(problem, rng)
    while is_held_out(numbers) != held_out:
        numbers = _numbers(problem, rng)
    name, other = rng.sample(NAMES, 2)
    item = rng.choice(ITEMS)
    values = dict(zip("abc", numbers, strict=False))
    question = problem.story.format(n=name, m=other, i=item, **values)
    parts, lead = [], ""
    for step in problem.steps:
        left, right = values[step[0]], values[step[2]]
        values["x"] = apply(step, left, right)
        expression = f"{left}{step[1]}{right}"
        parts += [
            Part("text", f"{lead}{expression}="),
            Part("python", expression),
            Part("output", str(values["x"])),
        ]
        lead = f"{values['x']}. "
    unit = f" {item}" if f"How many {item}" in question else ""
    parts.append(Part("text", f"{values['x']}{unit}.\n#### {values['x']}"))
    return Conversation((Message.of("user", question), Message("assistant", tuple(parts))))


def training_problem(rng: Random) -> Problem:
    """From the tables or put together, one step or two; never a template of the hard split."""
    luck = rng.random()
    if luck < 0.4:
        return rng.choice(ONE_STEP)
    if luck < 0.55:
        return rng.choice(TWO_STEPS)
    while True:
        steps, story = (stories.one_step if luck < 0.65 else stories.two_steps)(rng)
        if story not in HARD_STORIES:
            return Problem(story, steps)


def training_arithmetic(rng: Random) -> Conversation:
    """Half take one step. Held-out numbers never come up."""
    return problem_conversation(training_problem(rng), rng, held_out=False)
