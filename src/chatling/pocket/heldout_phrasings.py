"""Phrasings kept for tests, one list a relation: written before training was tuned, never in training text, not touched afterwards."""

from __future__ import annotations

from collections.abc import Mapping

FACTS: Mapping[str, tuple[str, ...]] = {
    "capital": (
        "Which city serves as the capital of {c}?", "Do you happen to know {cs} capital?",
        "I'm learning about {c}. What is its capital?", "Please tell me the name of the capital city of {c}.",
        "Remind me what the capital of {c} is called.", "So what's the capital city of {c}?", "What is the capital city called in {c}?",
        "I need to know the capital of {c}.", "Which is the capital of {c}?", "{c}: what is the capital?",
    ),
    "continent": (
        "Could you say on which continent {c} lies?", "{c} lies on which continent?", "Do you happen to know which continent {c} is in?",
        "To which continent does {c} belong?", "I'm reading about {c}. What continent is it in?", "Which part of the world is {c} in?",
        "Is there a continent that {c} is in? Which one?", "Remind me which continent {c} is in.", "What's the continent of {c}?",
    ),
    "country_of": (
        "Which country would I visit to see {city}, its capital?", "What country has {city} as its capital?",
        "Do you happen to know which country {city} is in?", "Which country is {city} the capital of?",
        "I'm in {city}. Which country is that the capital of?", "Remind me which country has the capital {city}.",
        "The city of {city} is the capital of which country?", "{city}: which country is it in?",
    ),
    "eats": (
        "What would {an} eat?", "What sort of food do {pl} like?", "Do you happen to know what {pl} eat?", "What could I feed {an}?",
        "What is the favourite food of {pl}?", "I have {an}. What does it eat?", "Remind me what {pl} eat.",
        "If I had {an}, what would it eat?", "What do {pl} usually eat?",
    ),
    "lives": (
        "Where would you find {an}?", "In which place does {an} live?", "Do you happen to know where {pl} live?",
        "Where is {an} at home?", "I want to see {an}. Where does it live?", "Remind me where {pl} live.",
        "What is the place where {an} lives?", "Where can we find {pl}?", "Where do {pl} usually live?",
    ),
    "sound": (
        "What kind of sound does {an} make?", "Do you happen to know what sound {an} makes?", "I hear {an}. What sound does it make?",
        "Remind me what sound {pl} make.", "What kind of noise do {pl} make?", "Which sound do {pl} make?", "How would {an} sound?",
        "What's the sound of {an}?",
    ),
    "legs": (
        "Do you happen to know how many legs {an} has?", "How many legs would {an} have?", "I see {an}. How many legs does it have?",
        "Remind me how many legs {pl} have.", "What would the number of legs of {an} be?", "Can you count the legs of {an}?",
        "How many legs can you see on {an}?",
    ),
    "young": (
        "What is the baby of {pl} called?", "Do you happen to know what a young {s} is called?", "How do people call a young {s}?",
        "What's the name for a baby {s}?", "Which word do we use for a young {s}?", "Remind me what you call a baby {s}.",
        "What name does a baby {s} have?", "When {an} is still young, what is it called?",
    ),
    "kind": (
        "Do you happen to know what kind of animal {an} is?", "What type of animals are {pl}?",
        "I see {an}. What kind of animal is it?", "Remind me what kind of animal {an} is.", "Which type of animal is {an}?",
        "What sort of animals are {pl}?", "Which class of animals does {an} belong to?",
    ),
    "colour": (
        "Do you happen to know what colour {x} is?", "What's the colour of {x}?", "Which colour would {x} be?",
        "Remind me what colour {x} is.", "I want to paint {x}. Which colour do I need?", "What colour would you paint {x}?",
        "Tell me the colour {x} has.",
    ),
    "made_of": (
        "Do you happen to know what {x} is made of?", "What would I need to make {x}?", "I see {x}. What is it made of?",
        "Remind me what {x} is made of.", "Which material is {x} made of?", "What do you make {x} from?",
        "What is the material used to make {x}?",
    ),
    "opposite": (
        "Do you happen to know the opposite of {x}?", "What word is the opposite of {x}?", "Remind me what the opposite of {x} is.",
        "I'm looking for the opposite of {x}. What is it?", "The word {x} has which opposite?",
        "Give me a word that means the opposite of {x}.", "What would be the opposite of {x}?", "If it isn't {x}, what is it?",
    ),
    "after": (
        "Do you happen to know which {unit} comes after {x}?", "Which {unit} do we have after {x}?", "Which is the next {unit} after {x}?",
        "Remind me which {unit} follows {x}.", "When {x} is over, which {unit} comes next?", "What's the {unit} after {x}?",
    ),
    "before": (
        "Do you happen to know which {unit} comes before {x}?", "Which is the {unit} before {x}?",
        "What {unit} do we have right before {x}?", "Remind me which {unit} comes before {x}.", "What's the {unit} before {x}?",
        "Which {unit} is just before {x}?",
    ),
    "order": (
        "Do you happen to know the {n} {unit} {of}?", "What's the {n} {unit} {of}?", "Which {unit} would be the {n} {of}?",
        "What {unit} comes {n} {of}?", "Remind me which {unit} is the {n} {of}.",
    ),
    "month_length": (
        "Do you happen to know how many days {x} has?", "How many days can I count in {x}?", "Remind me how many days are in {x}.",
        "What's the number of days in {x}?", "How many days long is the month of {x}?", "In {x}, how many days are there?",
    ),
    "category": (
        "Do you happen to know what {x} is?", "What sort of thing would {x} be?", "I see {x}. What kind of thing is it?",
        "Remind me what {x} is.", "What's {x}?", "To which group does {x} belong?", "How would you explain what {x} is?",
    ),
    "job": (
        "Do you happen to know what {an} does?", "What kind of work does {an} do?", "My father is {an}. What does he do?",
        "Remind me what {pl} do.", "What does {an} do every day?", "What's the job of {an}?", "What do {pl} do all day?",
    ),
    "use": (
        "Do you happen to know what {an} is for?", "What would I use {an} for?", "I have {an}. What is it used for?",
        "Remind me what {pl} are for.", "What's {an} for?", "What can you do with {an}?", "Why would somebody need {an}?",
    ),
    "amount": (
        "Do you happen to know how many {part} there are {whole}?", "How many {part} can you count {whole}?",
        "Remind me how many {part} are {whole}.", "What's the number of {part} {whole}?",
        "I want to know how many {part} you find {whole}.",
    ),
    "superlative": (
        "Do you happen to know {x}?", "Remind me what {x} is.", "Which one would be {x}?", "Could you name {x}?",
        "What would you call {x}?", "And what would {x} be called?",
    ),
    "compare": (
        "Do you happen to know which is {more}, {x} or {y}?", "If you compare {x} and {y}, which is {more}?",
        "Which would be {more}: {x} or {y}?", "What's {more}, {x} or {y}?", "Which of them is {more}, {x} or {y}?",
    ),
    "about": (
        "What do you happen to know about {topic}?", "I want to learn about {topic}.", "Give me a fact about {topic}.",
        "Tell us about {topic}.", "Please say something about {topic}.", "What can I learn about {topic}?",
    ),
}
PERSON = (
    "Have you heard of {p}?", "What is {p} famous for?", "In which year was {p} born?", "Which country does {p} come from?",
    "Can you tell me who {p} is?", "Is {p} still alive?", "Who is this {p}?",
)
THING = ("Can you explain what a {w} is?", "Have you ever seen a {w}?", "How big is a {w}?", "What would I do with a {w}?", "What's a {w}?",
         "Do you happen to know what a {w} is?", "What is the meaning of {w}?")
PLANET = (
    "Can people live on the planet {w}?", "Have you heard of the planet {w}?", "How many moons does the planet {w} have?",
    "What's the planet {w} like?",
)
SPELL = (
    "How would I spell {w}?", "Tell me the spelling of {w}.", "What's the spelling of {w}?", "Can you tell me how {w} is spelled?",
    "Which letters are in {w}?", "Could you spell the word {w} for me?", "How does one spell {w}?", "Remind me how to spell {w}.",
    "Do you happen to know how {w} is spelled?", "Please write {w} letter by letter.", "Can you spell out {w}?",
    "I need to write {w}. How is it spelled?",
)
COUNT = (
    "Do you happen to know how many {l}'s are in {w}?", "How many {l}'s can I find in {w}?", "Remind me how many {l}'s {w} has.",
    "How many times does {w} have {l}?", "Tell me the number of {l}'s in {w}.", "In the word {w}, how many {l}'s are there?",
    "How many letters in {w} are {l}?", "Count every {l} in {w}.", "I see {w}. How many {l}'s are in it?",
    "How many of the letters of {w} are {l}?", "What's the number of {l}'s in {w}?", "Could you count the {l}'s in {w}?",
)
FOLLOW_UPS = ("OK, and {x}?", "Can you say the same for {x}?", "And now {x}?", "Good, and {x}?", "Now what about {x}?", "Thanks. And {x}?")
PRONOUN_WRAPPERS = ("Great, {q}?", "I see. {Q}?", "And now tell me, {q}?", "Nice. And {q}?", "Well, {q}?")
