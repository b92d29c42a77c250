"""How each relation is asked and told in training text. Held-out phrasings are in `heldout.py`, and never here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrasings:
    """Ways to ask, as templates over a fact's slots, lower case at the start where nothing else is meant.

    `direct` questions stand alone ("what is the capital of {c}"), `indirect` ones follow "tell me" ("what the capital of {c} is"), `nouns`
    name what is wanted ("the capital of {c}"), `stems` are begun answers, `pronoun` questions follow a sentence that names the topic.
    """

    direct: tuple[str, ...]
    indirect: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()
    pronoun: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()


CAPITAL = Phrasings(
    direct=(
        "what is the capital of {c}", "what is {cs} capital", "what is {cs} capital city", "which city is the capital of {c}",
        "what city is the capital of {c}", "what is the capital city of {c}", "what's the capital of {c}", "whats the capital of {c}",
        "what is the name of the capital of {c}", "which capital does {c} have", "what capital city does {c} have",
        "the capital of {c} is what", "what do we call the capital of {c}", "in {c}, what is the capital", "what is the capital in {c}",
        "which city serves {c} as its capital", "{c} has which capital",
    ),
    indirect=("what the capital of {c} is", "which city is the capital of {c}", "what {cs} capital is", "what the capital city of {c} is"),
    nouns=("the capital of {c}", "the capital city of {c}", "{cs} capital", "{cs} capital city", "the name of the capital of {c}"),
    stems=("the capital of {c} is", "{cs} capital is", "the capital city of {c} is", "the capital of {c} is called"),
    pronoun=("what is its capital", "which city is its capital", "what's its capital city", "what is the capital", "and the capital",
        "its capital"),
    statements=("the capital of {c} is {city}", "{city} is the capital of {c}", "{cs} capital is {city}",
        "the capital city of {c} is {city}", "in {c}, the capital is {city}"),
)
CONTINENT = Phrasings(
    direct=("which continent is {c} in", "what continent is {c} in", "on which continent is {c}", "where is {c}",
        "in what continent is {c}", "which continent is {c} on", "{c} is in which continent", "what is the continent of {c}",
        "where in the world is {c}", "which continent does {c} belong to", "what is {cs} continent", "what part of the world is {c} in",
        "in which part of the world is {c}", "where can I find {c}", "what continent does {c} lie in"),
    indirect=("which continent {c} is in", "what continent {c} is in", "where {c} is", "where {c} lies", "what the continent of {c} is"),
    nouns=("the continent of {c}", "{cs} continent", "the continent {c} is in"),
    stems=("{c} is in", "{c} is a country in", "the continent of {c} is"),
    pronoun=("which continent is it in", "what continent is it in", "where is it", "and its continent", "what is its continent",
        "what continent is that in"),
    statements=("{c} is in {continent}", "{c} is a country in {continent}", "{c} lies in {continent}",
        "the continent of {c} is {continent}"),
)
COUNTRY_OF = Phrasings(
    direct=("{city} is the capital of which country", "which country has the capital {city}", "what country is {city} the capital of",
        "{city} is the capital of what country", "which country is {city} in", "what country is {city} in", "in which country is {city}",
        "of which country is {city} the capital", "which country's capital is {city}", "where is {city}", "where is the city of {city}",
        "to which country does {city} belong", "which country has {city} as its capital", "what country does {city} belong to"),
    indirect=("which country has the capital {city}", "what country {city} is the capital of", "which country {city} is in",
        "where {city} is"),
    nouns=("the country with the capital {city}", "the country whose capital is {city}", "the country that {city} is in"),
    stems=("{city} is the capital of", "{city} is in"),
    pronoun=("which country is it in", "what country is it the capital of", "which country is that the capital of"),
    statements=("{city} is the capital of {c}", "the city of {city} is in {c}", "{city} is the capital city of {c}"),
)
EATS = Phrasings(
    direct=("what does {an} eat", "what do {pl} eat", "what do {pl} like to eat", "what does {an} like to eat",
        "what is the food of {pl}", "what food do {pl} eat", "what kind of food does {an} eat", "what should I feed {an}",
        "what can I feed {pl}", "what does the {s} eat", "what is food for {an}", "{pl} eat what", "what do {pl} have for dinner",
        "what does {an} live on", "what do {pl} live on"),
    indirect=(
        "what {an} usually eats", "what {an} eats", "what {pl} eat", "what {pl} like to eat", "what food {pl} eat", "what to feed {an}",
    ),
    nouns=("the food of {pl}", "the food that {pl} eat", "what {pl} eat"),
    stems=("{an} eats", "{pl} eat", "the food of {pl} is"),
    pronoun=("what does it eat", "and what does it eat", "what do they eat", "what food does it eat", "what does it like to eat",
        "what do you feed it"),
    statements=("{an} eats {eats}", "{pl} eat {eats}", "{pl} like to eat {eats}", "the food of {pl} is {eats}"),
)
LIVES = Phrasings(
    direct=("where does {an} live", "where do {pl} live", "where can I find {pl}", "where can I see {an}", "what is the home of {an}",
        "where is the home of {pl}", "where would I find {an}", "where do {pl} have their home", "where do we find {pl}",
        "where does the {s} live", "in what place do {pl} live", "what place do {pl} live in", "{pl} live where",
        "where do {pl} make their home"),
    indirect=(
        "where {an} usually lives", "where {an} lives", "where {pl} live", "where I can find {pl}", "where the home of {an} is",
        "where to find {pl}",
    ),
    nouns=("the home of {pl}", "the home of {an}", "the place where {pl} live"),
    stems=("{an} lives", "{pl} live", "the home of {an} is"),
    pronoun=("where does it live", "and where does it live", "where do they live", "where is its home", "where can I find it"),
    statements=("{an} lives {lives}", "{pl} live {lives}", "you can find {pl} {lives}", "{pl} have their home {lives}"),
)
SOUND = Phrasings(
    direct=("what sound does {an} make", "what sound do {pl} make", "what does {an} say", "what noise does {an} make",
        "what noise do {pl} make", "what is the sound of {an}", "what does {an} sound like", "how does {an} sound", "how do {pl} sound",
        "what do {pl} say", "which sound does {an} make", "what do {pl} sound like", "what does the {s} say", "which noise do {pl} make"),
    indirect=("what sound {an} makes", "what sound {pl} make", "what noise {an} makes", "what {an} says", "how {an} sounds"),
    nouns=("the sound of {an}", "the sound that {pl} make", "the noise of {an}", "the sound {an} makes"),
    stems=("the sound of {an} is", "the sound that {pl} make is"),
    pronoun=("what sound does it make", "what does it say", "what noise does it make", "and what sound does it make", "how does it sound"),
    statements=("the sound of {an} is {sound}", "the sound that {pl} make is {sound}", "when {an} makes a noise, it is {sound}"),
)
LEGS = Phrasings(
    direct=("how many legs does {an} have", "how many legs do {pl} have", "how many legs has {an}", "how many legs are there on {an}",
        "what number of legs does {an} have", "how many legs does the {s} have", "on how many legs does {an} walk",
        "does {an} have legs, and how many", "how many legs can I count on {an}", "{an} has how many legs",
        "how many legs does one {s} have"),
    indirect=("how many legs {an} has", "how many legs {pl} have", "the number of legs of {an}", "how many legs there are on {an}"),
    nouns=("the number of legs of {an}", "the number of legs {an} has", "the number of legs on {an}"),
    stems=("the number of legs of {an} is", "{an} has this many legs:"),
    pronoun=("how many legs does it have", "and how many legs does it have", "how many legs has it", "how many legs do they have"),
    statements=("{an} has {legs} legs", "{pl} have {legs} legs", "the {s} has {legs} legs"),
)
YOUNG = Phrasings(
    direct=("what is a young {s} called", "what is a baby {s} called", "what do you call a young {s}", "what do you call a baby {s}",
        "what do we call the young of {an}", "what is the young of {an} called", "what is the baby of {an} called",
        "what is the name for a baby {s}", "what is the name of a young {s}", "how do you call a baby {s}", "what are baby {pl} called",
        "what are young {pl} called", "what is the word for a young {s}", "what is a little {s} called"),
    indirect=("what a young {s} is called", "what a baby {s} is called", "what you call a baby {s}", "what the young of {an} is called"),
    nouns=("the name for a baby {s}", "the name of a young {s}", "the word for a young {s}", "the word for a baby {s}"),
    stems=("a young {s} is called", "a baby {s} is called", "the young of {an} is called"),
    pronoun=("what is its young called", "what is its baby called", "what do you call its young", "and what is a young one called"),
    statements=("a young {s} is called {young}", "a baby {s} is {young}", "the young of {an} is called {young}", "{young} is a young {s}"),
)
KIND = Phrasings(
    direct=("what kind of animal is {an}", "what is {an}", "what type of animal is {an}", "what sort of animal is {an}", "what are {pl}",
        "what kind of animals are {pl}", "which kind of animal is {an}", "what class of animal is {an}",
        "what kind of animal is the {s}", "what group of animals does {an} belong to", "which group do {pl} belong to",
        "to which group of animals does {an} belong"),
    indirect=("what kind of animal {an} is", "what {an} is", "what type of animal {an} is", "what {pl} are", "which group {pl} belong to"),
    nouns=("the kind of animal that {an} is", "the group that {pl} belong to", "the type of animal {an} is"),
    stems=("{an} is a kind of", "{an} belongs to the group of"),
    pronoun=("what kind of animal is it", "what type of animal is it", "and what kind of animal is it", "what is it",
        "which group does it belong to"),
    statements=("{an} is {kind}", "{pl} belong to the group of {kind}s", "the {s} is {kind}"),
)
COLOUR = Phrasings(
    direct=(
        "if I paint {x}, what colour do I take", "what colour is {x}", "what color is {x}", "which colour is {x}", "which color is {x}",
        "what is the colour of {x}", "what is the color of {x}", "what colour does {x} have", "which colour does {x} have",
        "what color does {x} have", "{x} has which colour", "how does {x} look, what colour", "in what colour does {x} come",
    ),
    indirect=("what colour {x} is", "what color {x} is", "which colour {x} has", "the colour of {x}", "what the colour of {x} is"),
    nouns=("the colour of {x}", "the color of {x}", "the colour that {x} has"),
    stems=("the colour of {x} is", "the color of {x} is", "{x} is the colour"),
    pronoun=("what colour is it", "what color is it", "and what colour is it", "which colour does it have"),
    statements=("{x} is {a}", "the colour of {x} is {a}", "the color of {x} is {a}", "{x} has the colour {a}"),
)
MADE = Phrasings(
    direct=("what is {x} made of", "what is {x} made from", "what do people make {x} from", "from what is {x} made",
        "what do you need to make {x}", "what do we make {x} from", "of what is {x} made", "what material is {x} made of",
        "what stuff is {x} made of", "what goes into {x}", "{x} is made of what", "what do people use to make {x}",
        "what is used to make {x}"),
    indirect=("what {x} is made of", "what {x} is made from", "what people make {x} from", "what you need to make {x}"),
    nouns=("the material of {x}", "the material {x} is made of", "the stuff that {x} is made of"),
    stems=("{x} is made of", "{x} is made from", "people make {x} from"),
    pronoun=("what is it made of", "what is that made from", "and what is it made of", "what do people make it from"),
    statements=("{x} is made from {a}", "people make {x} from {a}", "to make {x} you need {a}", "{x} is made of {a}"),
)
OPPOSITE = Phrasings(
    direct=("what is the opposite of {x}", "what's the opposite of {x}", "which word is the opposite of {x}",
        "what word means the opposite of {x}", "what is the opposite word of {x}", "what is the reverse of {x}",
        "what is the contrary of {x}", "which word means the opposite of {x}", "what is the opposite of the word {x}",
        "what do you call the opposite of {x}", "what is not {x} but the opposite", "if something is not {x}, what is it",
        "{x} is the opposite of what", "what is the antonym of {x}", "which word is opposite to {x}"),
    indirect=("what the opposite of {x} is", "which word is the opposite of {x}", "what the opposite word of {x} is"),
    nouns=("the opposite of {x}", "the opposite word of {x}", "a word for the opposite of {x}", "the contrary of {x}"),
    stems=("the opposite of {x} is", "{x} is the opposite of", "{x} and its opposite,"),
    statements=("the opposite of {x} is {a}", "{a} is the opposite of {x}", "if it is not {x}, it is {a}",
        "{x} is one thing, {a} is its opposite"),
)
AFTER = Phrasings(
    direct=("which {unit} comes after {x}", "what {unit} comes after {x}", "what comes after {x}", "what {unit} follows {x}",
        "which {unit} follows {x}", "what is the {unit} after {x}", "what is the next {unit} after {x}", "after {x} comes which {unit}",
        "what {unit} is after {x}", "which {unit} is next after {x}", "after {x}, what {unit} is it", "which {unit} is it after {x}"),
    indirect=("which {unit} comes after {x}", "what comes after {x}", "what {unit} follows {x}", "what the {unit} after {x} is"),
    nouns=("the {unit} after {x}", "the next {unit} after {x}", "the {unit} that follows {x}"),
    stems=("after {x} comes", "the {unit} after {x} is"),
    statements=("after {x} comes {a}", "the {unit} after {x} is {a}", "{x} comes before {a}", "{a} follows {x}"),
)
BEFORE = Phrasings(
    direct=("which {unit} comes before {x}", "what {unit} comes before {x}", "what comes before {x}", "what {unit} is before {x}",
        "which {unit} is before {x}", "what is the {unit} before {x}", "which {unit} comes right before {x}",
        "before {x} comes which {unit}", "what {unit} comes just before {x}", "which {unit} do we have before {x}",
        "before {x}, what {unit} is it", "which {unit} is it before {x}"),
    indirect=("which {unit} comes before {x}", "what comes before {x}", "what {unit} is before {x}", "what the {unit} before {x} is"),
    nouns=("the {unit} before {x}", "the {unit} right before {x}", "the {unit} that comes before {x}"),
    stems=("before {x} comes", "the {unit} before {x} is"),
    statements=("before {x} comes {a}", "the {unit} before {x} is {a}", "{x} comes after {a}"),
)
ORDER = Phrasings(
    direct=("which {unit} is the {n} {of}", "what is the {n} {unit} {of}", "what {unit} is the {n} {of}", "which is the {n} {unit} {of}",
        "what is the name of the {n} {unit} {of}", "the {n} {unit} {of} is which one", "which {unit} comes {n} {of}",
        "what do we call the {n} {unit} {of}"),
    indirect=("which {unit} is the {n} {of}", "what the {n} {unit} {of} is", "what the {n} {unit} {of} is called"),
    nouns=("the {n} {unit} {of}", "the name of the {n} {unit} {of}"),
    stems=("the {n} {unit} {of} is", "the {n} {unit} {of} is called"),
    statements=("the {n} {unit} {of} is {a}", "{a} is the {n} {unit} {of}"),
)
MONTH_LENGTH = Phrasings(
    direct=("how many days does {x} have", "how many days are in {x}", "how many days are there in {x}", "how long is {x}",
        "how many days has {x}", "how many days long is {x}", "what number of days does {x} have", "{x} has how many days",
        "how many days does the month of {x} have"),
    indirect=("how many days {x} has", "how many days are in {x}", "how long {x} is", "how many days there are in {x}"),
    nouns=("the number of days in {x}", "the length of {x} in days", "the number of days of {x}"),
    stems=("the number of days in {x} is", "{x} has this many days:"),
    pronoun=("how many days does it have", "how long is it", "and how many days does it have", "how many days are in it"),
    statements=("{x} has {a} days", "there are {a} days in {x}", "the month of {x} has {a} days"),
)
CATEGORY = Phrasings(
    direct=("what is {x}", "what kind of thing is {x}", "what sort of thing is {x}", "what type of thing is {x}", "what is {x} exactly",
        "what exactly is {x}", "which kind of thing is {x}", "what would you call {x}", "what does {x} count as", "what is meant by {x}",
        "do you know {x}", "{x} is what kind of thing", "what group does {x} belong to"),
    indirect=("what {x} is", "what kind of thing {x} is", "what sort of thing {x} is", "what {x} is exactly"),
    nouns=("the kind of thing that {x} is", "the group {x} belongs to"),
    stems=("{x} is a kind of", "{x} is"),
    pronoun=("what kind of thing is it", "what is it", "what sort of thing is that"),
    statements=("{x} is {a}", "{x} is {a}, as everybody knows", "we say that {x} is {a}"),
)
JOB = Phrasings(
    direct=("what does {an} do", "what is the job of {an}", "what is {an}", "what do {pl} do", "what work does {an} do",
        "what does {an} do at work", "what does {an} do all day", "what is the work of {an}", "what is {an} good at",
        "how does {an} help people", "what does the {s} do", "what do {pl} do at work", "who is {an}"),
    indirect=("what {an} does", "what the job of {an} is", "what {pl} do", "what work {an} does", "what {an} is"),
    nouns=("the job of {an}", "the work of {an}", "the work that {pl} do"),
    stems=("{an}", "the job of {an} is", "{an} is someone who"),
    pronoun=("what does he do", "what does she do", "what is that job", "what do they do"),
    statements=("{an} {does}", "{an} is someone who {does}", "the {s} {does} every day"),
)
USE = Phrasings(
    direct=("what is {an} for", "what is {an} used for", "what do you do with {an}", "what can I do with {an}",
        "what do people use {an} for", "why do people need {an}", "what do we use {an} for", "what are {pl} for",
        "what are {pl} used for", "what does {an} help you do", "what is the use of {an}", "why do I need {an}", "what good is {an}"),
    indirect=("what {an} is for", "what {an} is used for", "what people use {an} for", "what {pl} are for"),
    nouns=("the use of {an}", "a use of {an}", "what {pl} are for"),
    stems=("you use {an} to", "{an} is used to", "people use {an} to"),
    pronoun=("what is it for", "what do people use it for", "what is that used for", "and what is it for"),
    statements=("you use {an} to {use}", "people use {an} to {use}", "with {an} you can {use}", "{an} helps you to {use}"),
)
AMOUNT = Phrasings(
    direct=("how many {part} are {whole}", "how many {part} are there {whole}", "what is the number of {part} {whole}",
        "{whole}, how many {part} are there", "how many {part} do you find {whole}", "how many {part} can I find {whole}",
        "how many {part} would I count {whole}", "what number of {part} is there {whole}", "how many {part} do we have {whole}"),
    indirect=("how many {part} are {whole}", "how many {part} there are {whole}", "the number of {part} {whole}"),
    nouns=("the number of {part} {whole}", "how many {part} are {whole}"),
    stems=("the number of {part} {whole} is", "{whole}, the number of {part} is"),
    statements=("there are {a} {part} {whole}", "{whole} there are {a} {part}", "the number of {part} {whole} is {a}"),
)
SUPERLATIVE = Phrasings(
    direct=("what is {x}", "which is {x}", "what is {x} called", "what's {x}", "what do we call {x}", "what is the name of {x}",
        "what would be {x}", "which one is {x}", "what do people call {x}", "{x} is which one", "{x} is what", "what is known as {x}"),
    indirect=("what {x} is", "which is {x}", "what {x} is called", "what the name of {x} is"),
    nouns=("{x}", "the name of {x}"),
    stems=("{x} is", "{x} is called"),
    statements=("{x} is {a}", "{a} is {x}"),
)
COMPARE = Phrasings(
    direct=(
        "which is {more}, {x} or {y}", "what is {more}, {x} or {y}", "who is {more}, {x} or {y}", "which one is {more}, {x} or {y}",
        "which is the {more} one, {x} or {y}", "is {x} or {y} {more}", "compare {x} and {y}: which is {more}",
        "{x} or {y}, which is {more}", "{x} or {y}: which one is {more}", "of {x} and {y}, which is {more}",
        "between {x} and {y}, which is {more}", "{x} and {y}: which is {more}",
    ),
    indirect=("which is {more}, {x} or {y}", "what is {more}, {x} or {y}", "whether {x} or {y} is {more}",
        "which one is {more}, {x} or {y}"),
    nouns=("the {more} one, {x} or {y}", "the {more} of {x} and {y}"),
    stems=("of {x} and {y}, the {more} one is",),
    statements=("{a} is {more} than {other}", "of {x} and {y}, {a} is {more}", "{a} is {more} and {other} is not"),
)
ABOUT = Phrasings(
    direct=("what do you know about {topic}", "what can you tell me about {topic}", "can you tell me about {topic}",
        "do you know anything about {topic}", "what can you say about {topic}", "could you tell me something about {topic}",
        "what should I know about {topic}", "do you know {topic}", "will you tell me about {topic}"),
    nouns=(
        "me about {topic}", "me something about {topic}", "me a little about {topic}", "me what you know about {topic}",
        "me a fact about {topic}", "me what I can learn about {topic}",
    ),
)
