"""The facts of the pocket world: plain tables, every row of them true. Phrasing lives in
`relations.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

# continent: country=capital; chosen so that neither the capital nor the continent is disputed
COUNTRIES = {
    "Europe": (
        "France=Paris, Spain=Madrid, Italy=Rome, Germany=Berlin, Portugal=Lisbon, Poland=Warsaw,"
        " Greece=Athens, Sweden=Stockholm, Norway=Oslo, Finland=Helsinki, Denmark=Copenhagen,"
        " Austria=Vienna, Hungary=Budapest, Ireland=Dublin, Belgium=Brussels, Iceland=Reykjavik,"
        " Romania=Bucharest, Bulgaria=Sofia, Croatia=Zagreb, Ukraine=Kyiv, Switzerland=Bern, the"
        " United Kingdom=London"
    ),
    "Asia": (
        "China=Beijing, Japan=Tokyo, India=New Delhi, Thailand=Bangkok, Vietnam=Hanoi,"
        " Nepal=Kathmandu, Iran=Tehran, Iraq=Baghdad, Bangladesh=Dhaka, Pakistan=Islamabad, South"
        " Korea=Seoul, the Philippines=Manila, Syria=Damascus, Lebanon=Beirut"
    ),
    "Africa": (
        "Egypt=Cairo, Kenya=Nairobi, Nigeria=Abuja, Ghana=Accra, Morocco=Rabat, Algeria=Algiers,"
        " Tunisia=Tunis, Libya=Tripoli, Sudan=Khartoum, Senegal=Dakar, Uganda=Kampala,"
        " Zambia=Lusaka, Rwanda=Kigali"
    ),
    "North America": (
        "Canada=Ottawa, the United States=Washington, Mexico=Mexico City, Cuba=Havana,"
        " Jamaica=Kingston"
    ),
    "South America": (
        "Brazil=Brasilia, Argentina=Buenos Aires, Chile=Santiago, Peru=Lima, Colombia=Bogota,"
        " Ecuador=Quito, Uruguay=Montevideo, Venezuela=Caracas"
    ),
    "Oceania": "Australia=Canberra, New Zealand=Wellington, Fiji=Suva",
}

# name, plural, kind, eats, lives, legs, sound, young; "-" where there is no one plain answer
ANIMALS = """
cow, cows, mammal, grass, on a farm, four, moo, calf
horse, horses, mammal, hay, on a farm, four, neigh, foal
sheep, sheep, mammal, grass, on a farm, four, baa, lamb
goat, goats, mammal, leaves, on a farm, four, bleat, kid
pig, pigs, mammal, grain, on a farm, four, oink, piglet
dog, dogs, mammal, meat, in a house, four, bark, puppy
cat, cats, mammal, mice, in a house, four, meow, kitten
hen, hens, bird, seeds, on a farm, two, cluck, chick
duck, ducks, bird, water plants, on a pond, two, quack, duckling
goose, geese, bird, grass, near a lake, two, honk, gosling
owl, owls, bird, mice, in the forest, two, hoot, owlet
eagle, eagles, bird, small animals, in the mountains, two, screech, eaglet
penguin, penguins, bird, fish, in Antarctica, two, -, chick
parrot, parrots, bird, nuts, in the jungle, two, squawk, chick
lion, lions, mammal, meat, on the savanna, four, roar, cub
tiger, tigers, mammal, meat, in the jungle, four, roar, cub
bear, bears, mammal, berries, in the forest, four, growl, cub
wolf, wolves, mammal, meat, in the forest, four, howl, pup
fox, foxes, mammal, mice, in a den, four, -, -
elephant, elephants, mammal, leaves, on the savanna, four, trumpet, calf
giraffe, giraffes, mammal, leaves, on the savanna, four, -, calf
zebra, zebras, mammal, grass, on the savanna, four, -, foal
monkey, monkeys, mammal, fruit, in the jungle, -, -, -
camel, camels, mammal, desert plants, in the desert, four, -, calf
kangaroo, kangaroos, mammal, grass, in Australia, -, -, joey
panda, pandas, mammal, bamboo, in China, four, -, cub
rabbit, rabbits, mammal, grass, in a burrow, four, -, -
mouse, mice, mammal, seeds, in a hole, four, squeak, pup
squirrel, squirrels, mammal, nuts, in trees, four, -, -
deer, deer, mammal, leaves, in the forest, four, -, fawn
bat, bats, mammal, insects, in caves, two, -, pup
frog, frogs, amphibian, flies, in a pond, four, croak, tadpole
snake, snakes, reptile, mice, in the grass, no, hiss, -
crocodile, crocodiles, reptile, fish, in rivers, four, -, -
shark, sharks, fish, fish, in the sea, no, -, pup
whale, whales, mammal, krill, in the sea, no, song, calf
dolphin, dolphins, mammal, fish, in the sea, no, whistle, calf
bee, bees, insect, nectar, in a hive, six, buzz, larva
ant, ants, insect, seeds, in a nest, six, -, larva
butterfly, butterflies, insect, nectar, in gardens, six, -, caterpillar
spider, spiders, arachnid, insects, in a web, eight, -, spiderling
"""

COLOURS = (
    "a banana=yellow, a lemon=yellow, the sun=yellow, a strawberry=red, a tomato=red, blood=red, a"
    " fire engine=red, grass=green, a leaf=green, a cucumber=green, a pea=green, the sky=blue, the"
    " sea=blue, snow=white, milk=white, salt=white, a swan=white, coal=black, a crow=black, a"
    " carrot=orange, an orange=orange, a pumpkin=orange, chocolate=brown, earth=brown, wood=brown,"
    " a plum=purple, a violet=purple, a flamingo=pink, a pig=pink, an elephant=grey, ash=grey"
)

MADE_OF = (
    "bread=flour, a window=glass, a bottle=glass, a book=paper, a newspaper=paper, a tyre=rubber,"
    " cheese=milk, butter=milk, a candle=wax, a table=wood, a door=wood, a pencil=wood, a"
    " sweater=wool, a scarf=wool, a shirt=cotton, a towel=cotton, a shoe=leather, a belt=leather, a"
    " brick=clay, a pot=clay, a nail=iron, a key=metal, a spoon=metal, a ring=gold, a"
    " raisin=grapes, wine=grapes, jam=fruit, an omelette=eggs, ice=water, a cloud=water, a"
    " castle=stone, a sail=cloth, chips=potatoes, a bird's nest=twigs"
)

OPPOSITES = (
    "hot=cold, big=small, fast=slow, day=night, happy=sad, up=down, left=right, open=closed,"
    " wet=dry, hard=soft, light=dark, old=new, long=short, rich=poor, strong=weak, full=empty,"
    " clean=dirty, near=far, early=late, high=low, good=bad, loud=quiet, thick=thin, wide=narrow,"
    " sweet=sour, begin=end, push=pull, win=lose, buy=sell, give=take, true=false, first=last,"
    " in=out, love=hate, inside=outside, deep=shallow, brave=afraid, sharp=blunt, awake=asleep"
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
MONTH_DAYS = ("31", "28", "31", "30", "31", "30", "31", "31", "30", "31", "30", "31")
PLANETS = ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")
ORDINALS = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
)

CATEGORIES = (
    "an apple=fruit, a pear=fruit, a cherry=fruit, a peach=fruit, a grape=fruit, a mango=fruit, an"
    " onion=vegetable, a potato=vegetable, a cabbage=vegetable, spinach=vegetable, a"
    " violin=instrument, a piano=instrument, a drum=instrument, a flute=instrument, a"
    " guitar=instrument, a hammer=tool, a saw=tool, a screwdriver=tool, a rose=flower, a"
    " tulip=flower, a daisy=flower, an oak=tree, a pine=tree, a birch=tree, silver=metal,"
    " copper=metal, tin=metal, football=sport, tennis=sport, hockey=sport, chess=game, a"
    " diamond=gem, a ruby=gem, a chair=furniture, a sofa=furniture, a bed=furniture, coffee=drink,"
    " tea=drink, juice=drink"
)

# job=what the person does
JOBS = (
    "baker=bakes bread, farmer=grows food, teacher=teaches children, doctor=heals sick people,"
    " pilot=flies planes, sailor=sails ships, painter=paints pictures, singer=sings songs,"
    " writer=writes books, builder=builds houses, cook=makes meals, gardener=looks after plants,"
    " firefighter=puts out fires, tailor=sews clothes, dentist=looks after teeth, vet=heals sick"
    " animals, judge=decides in court, miner=digs for coal, postman=brings letters, librarian=lends"
    " books"
)

# thing=what it is used for
USES = (
    "clock=tell the time, knife=cut food, pen=write, broom=sweep the floor, umbrella=keep off the"
    " rain, lamp=make light, oven=bake food, fridge=keep food cold, phone=talk to people far away,"
    " boat=cross water, ladder=climb up high, map=find the way, soap=wash your hands,"
    " telescope=look at stars, thermometer=measure heat, ruler=measure length, needle=sew clothes,"
    " bucket=carry water, pillow=rest your head, camera=take pictures"
)

# parts in whole=how many
AMOUNTS = (
    "days in a week=seven, months in a year=twelve, hours in a day=24, minutes in an hour=60,"
    " seconds in a minute=60, seasons in a year=four, letters in the alphabet=26, sides on a"
    " triangle=three, sides on a square=four, fingers on a hand=five, wheels on a bicycle=two,"
    " wheels on a car=four, colours in a rainbow=seven, planets around the sun=eight, players in a"
    " football team=eleven, days in a year=365, strings on a violin=four, eggs in a dozen=twelve,"
    " years in a century=100, legs on an insect=six"
)

SUPERLATIVES = (
    "the largest planet=Jupiter, the smallest planet=Mercury, the hottest planet=Venus, the planet"
    " closest to the sun=Mercury, the planet farthest from the sun=Neptune, the red planet=Mars,"
    " the planet we live on=Earth, the star closest to us=the sun, the largest ocean=the Pacific,"
    " the largest continent=Asia, the largest animal=the blue whale, the tallest animal=the"
    " giraffe, the fastest land animal=the cheetah, the largest bird=the ostrich, the highest"
    " mountain=Mount Everest, the largest country=Russia, the coldest continent=Antarctica, the"
    " shortest month=February, the king of animals=the lion"
)

# from small to large; things on one line are too close to compare
SIZES = """
an ant
a bee
a mouse
a cat, a rabbit
a wolf, a sheep
a horse, a cow
an elephant
a whale
a mountain
the moon
the earth
the sun
"""


@dataclass(frozen=True)
class Country:
    name: str
    capital: str
    continent: str


@dataclass(frozen=True)
class Animal:
    """Empty strings stand where there is no one plain answer."""

    name: str
    plural: str
    kind: str
    eats: str
    lives: str
    legs: str
    sound: str
    young: str


def pairs(table: str) -> list[tuple[str, str]]:
    """Split "a=b, c=d" into [("a", "b"), ("c", "d")]."""
    return [(left, right) for left, right in (entry.split("=") for entry in table.split(", "))]


def countries() -> list[Country]:
    return [
        Country(name, capital, continent)
        for continent, table in COUNTRIES.items()
        for name, capital in pairs(table)
    ]


def animals() -> list[Animal]:
    return [
        Animal(*("" if cell == "-" else cell for cell in line.split(", ")))
        for line in ANIMALS.split("\n")
        if line
    ]


def sizes() -> list[list[str]]:
    """Groups of things from small to large."""
    return [line.split(", ") for line in SIZES.split("\n") if line]


def with_article(noun: str) -> str:
    """ "a cow", "an owl"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
