"""What the sentences of a note are about: the heading, or what "it" and "she" stand for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_SUBJECT = 5  # words, or of Chinese four times as many signs
LONGEST_SORT = 3  # words of what something is: "our newsletter"
OPENING = 3  # words of a sentence on which the next one leans; of Chinese a sign more
CAPITAL = r"(?<!\w)[A-ZÀ-ÖØ-Þ][\w'’-]+"
PERSON = re.compile(rf"(?:{CAPITAL} ){{1,2}}{CAPITAL}")  # two or three words
NOT_INSIDE = "(?<![吉其])"  # of 吉他 and 其他, which are no pronouns
WORD = re.compile(r"\w+")
CLAUSE = re.compile(r"[,;:(]")


@dataclass(frozen=True)
class Grammar:
    """The little words by which sentences are read: those of "X is Y", and those that lean on what
    was said before.
    """

    copulas: Sequence[str] = ()
    leaning: Sequence[str] = ()
    wide: bool = False  # without blanks between words
    joined: str = "and"
    pronouns: Sequence[str] = ()  # stand for what was spoken of
    persons: Sequence[str] = ()  # and of these for a person
    pointing: Sequence[str] = ()  # do so before "is" alone: "this" of "This is …"
    existing: Sequence[str] = ()  # do not before "is": "there" of "There is …"
    places: Sequence[str] = ()  # begin what is no subject: "in" of "In the hall is …"
    small: Sequence[str] = ()  # tell nothing
    clauses: Sequence[str] = ()  # begin what is no subject, either: "when" of "When she is …"
    determiners: Sequence[str] = ()  # begin what something is: "our" of "X is our Y"

    def subject(self, sentence: str) -> str | None:
        """X of "X is Y", where X is short and no place."""
        match = self._copula(sentence)
        if match is None:
            return None
        subject = match[1].strip()
        size = len(subject) / 4 if self.wide else len(subject.split())
        fits = 0 < size <= LONGEST_SUBJECT and not self.begins(subject, self.places)
        return subject if fits and (self.wide or self._names(subject.split())) else None

    def _names(self, subject: Sequence[str]) -> bool:
        """Whether a subject names something by itself, as "Once he" and "When she" do not."""
        words = [word.lower().strip(",") for word in subject]
        return words[0] not in self.clauses and not {*self.pronouns, *self.existing} & {*words}

    def sort(self, sentence: str) -> str:
        """Y of "X is our Y", where Y is short and no number."""
        match = self._copula(sentence)
        if match is None or self.wide:
            return ""
        words = re.split(r"[.,;:!?(]", sentence[match.end() - 1 :])[0].split()
        if not words:
            return ""
        first, *rest = words
        name = " ".join(word for word in rest if word.lower() not in self.pronouns)
        fits = 0 < len(rest) <= LONGEST_SORT and not re.search(r"\d", name)
        return name if fits and first.lower() in self.determiners else ""

    def _copula(self, sentence: str) -> re.Match[str] | None:
        if not self.copulas:
            return None
        gap, words = "" if self.wide else r"\s+", "|".join(map(re.escape, self.copulas))
        return re.match(rf"([^,;:()，；：、?？]+?){gap}(?:{words}){gap}\S", sentence)

    def begins(self, text: str, words: Sequence[str]) -> bool:
        if self.wide:
            return text.startswith(tuple(words))
        return any(word.lower().strip(",") in words for word in text.split(maxsplit=1)[:1])

    def leaning_word(self, text: str, words: Sequence[str]) -> re.Match[str] | None:
        """The first of the words that stands for something that was spoken of."""
        gap = "" if self.wide else r"\s+"
        found = "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)"
        edges = rf"{NOT_INSIDE}(?:{found})" if self.wide else rf"(?<!\w)(?:{found})(?![\w'’])"
        being_words = "|".join(map(re.escape, self.copulas)) or "(?!)"
        is_next = re.compile(rf"{gap}(?:{being_words})" + ("" if self.wide else r"(?!\w)"))
        for match in re.finditer(edges, text, re.IGNORECASE):
            being = is_next.match(text, match.end()) is not None
            word = match[0].lower()
            if not (being if word in self.existing else not being and word in self.pointing):
                return match
        return None

    def person(self, text: str) -> str:
        """The last name of several words with capitals."""
        for name in reversed(PERSON.findall(text)):
            words = [word for word in name.split() if word.lower() not in self.small]
            if len(words) > 1:
                return re.sub(r"['’]s$", "", " ".join(words))
        return ""

    def names_one(self, text: str) -> bool:
        """Whether a text names somebody by one word."""
        names = [word for word in re.findall(CAPITAL, text) if word.lower() not in self.small]
        return bool(names) and not self.person(text)

    def said_before(self, ahead: str) -> bool:
        """Whether a word after `ahead` leans on a clause there: "we sleep at the inn, it …"."""
        return bool(CLAUSE.search(ahead)) and not self.begins(ahead, (*self.places, *self.clauses))

    def object(self, sentence: str) -> str:
        """What a sentence ends with that begins with "we" or names several: after "a", or of
        several after any little word.
        """
        words, found = sentence.rstrip(".!?").split(), list[str]()
        while words and len(found) < OPENING and words[-1].lower() not in self.small:
            found.insert(0, words.pop())
        first, said = words[:OPENING], " ".join(found)
        several = self.joined in first
        if not words or not (several or self._names_nothing(first)) or re.search(r"\d", said):
            return ""
        return said if several or words[-1].lower() in self.determiners else ""

    def opening(self, sentence: str) -> str:
        """The first words of a sentence, but for "we" and the like."""
        first = sentence.split()[:OPENING]
        return "" if self._names_nothing(first) else " ".join(first)

    def _names_nothing(self, first: Sequence[str]) -> bool:
        word = first[0].lower()
        return word in self.small and word not in self.determiners

    def telling(self, text: str) -> list[str]:
        """The words that tell something, in lower case; of Chinese the whole text."""
        if self.wide:
            return [text]
        words = WORD.findall(text.lower())
        return [word for word in words if word not in self.small] or words


@dataclass
class Said:
    """What a note has spoken of under a heading, for the words that stand for it."""

    heading: str
    grammar: Grammar
    before: str = ""  # the last sentence that leans on none
    subject: str = ""  # X of "X is Y"
    sort: str = ""  # and Y
    person: str = ""

    def leans(self, sentence: str) -> bool:
        """Whether it begins with a word that stands for what was spoken of."""
        first = self.grammar.leaning_word(sentence, self.grammar.leaning)
        return first is not None and first.start() == 0

    def asked(self, sentence: str) -> str:
        """The words by which a sentence may be asked for: it with what it is about for the first
        word that stands for that, and beside it where it does not say so.
        """
        text, sort = self._resolved(sentence), ""
        if text != sentence and self.subject in text:
            sort = self.sort
        names = [name for name in (self.heading, sort) if name and not self._has(text, name)]
        return ": ".join((*names, text))

    def hear(self, sentence: str) -> None:
        """Remember what a sentence speaks of, for those after it."""
        grammar, text, leans = self.grammar, self._resolved(sentence), self.leans(sentence)
        if name := grammar.person(sentence):
            self.person = name
        if leans:
            return
        self.before = text
        if (subject := grammar.subject(sentence)) and subject != name:
            self.subject, self.sort = subject, grammar.sort(sentence)

    def _resolved(self, sentence: str) -> str:
        """The sentence with what it is about for the first word that stands for it: at its
        beginning, or where it does not speak of its heading further on.
        """
        grammar = self.grammar
        leans = self.leans(sentence)
        words = grammar.leaning if leans else grammar.pronouns
        match = grammar.leaning_word(sentence, words)
        if match is None or (
            not leans and (match.start() == 0 or self._has(sentence, self.heading))
        ):
            return sentence
        ahead = sentence[: match.start()]
        if match[0].lower() in grammar.persons:
            if grammar.names_one(ahead):
                return sentence
        elif not leans and not grammar.wide and grammar.said_before(ahead):
            return sentence
        topic = self._meant(match[0].lower(), ahead)
        return sentence[: match.start()] + topic + sentence[match.end() :]

    def _meant(self, word: str, ahead: str) -> str:
        """The person spoken of last; or the heading, where the sentence before speaks of it; or
        what that is about, was about before, or begins with; or ends with, where it begins with
        "we" or names several. `ahead` is what the sentence says before the word.
        """
        grammar = self.grammar
        if word in grammar.persons and (person := grammar.person(ahead) or self.person):
            return person
        if not self.before or self._has(self.before, self.heading):
            return self.heading
        if self.subject or ahead:
            return self.subject or self.heading
        if grammar.wide:
            return self.before[: OPENING + 1]
        return grammar.object(self.before) or grammar.opening(self.before) or self.heading

    def _has(self, text: str, name: str) -> bool:
        """Whether a text has all words of a name that tell something."""
        if self.grammar.wide:
            return name in text
        said = set(WORD.findall(text.lower()))
        return all(word in said for word in self.grammar.telling(name))
