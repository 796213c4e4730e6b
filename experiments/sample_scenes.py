"""Scenes of which `make_samples.py` builds the entailment sample, and the names it uses.

A scene is a premise in two wordings, with pairs of hypotheses that have the same form: the first
follows from the premise, the second does not. As both have the same form, a hypothesis alone gives
little away. `None` stands where the matching hypothesis belongs to another scene.
"""

words = str.split  # words("a b") is ["a", "b"]

PEOPLE = words(
    "Anna Boris Carmen David Elena Farid Grace Hugo Ingrid Jamal Keiko Lucas Maria Nadia Oscar "
    "Priya Quentin Rosa Samuel Tariq Ursula Viktor Wanda Yusuf Zoe"
)
TOWNS = words(
    "Ashford Millbrook Oakdale Riverton Fairview Kingsport Westbury Lakewood Norwood Elmhurst"
)
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words("January March April May June July August October November December")
NUMBERS = words("three four five six seven eight nine ten eleven twelve")
STREETS = words("Maple Church Harbor Mill Station Garden Castle Bridge")

# Fillers by slot. A slot with a trailing 2 takes another value of the same list.
FILLERS = {
    "city": words("Lyon Toronto Nairobi Madrid Oslo Lima Boston Kyoto Cairo Dublin"),
    "town": TOWNS,
    "day": DAYS,
    "month": MONTHS,
    "n": NUMBERS,
    "street": STREETS,
    "color": words("red blue green yellow white black silver brown"),
    "ride": words("bus taxi train tram"),
    "game": words("chess tennis checkers badminton squash"),
    "topic": ["the war", "an old lighthouse", "a lost child", "the harvest", "life at sea"],
    "job": ["a baker", "a nurse", "a lawyer", "a pilot", "a carpenter", "a librarian"],
    "weather": ["snow", "ice", "flooding", "thick fog"],
    "lang": words("French Spanish Arabic German Hindi Polish Swahili"),
    "subject": words("history physics music geography chemistry biology"),
    "thing": ["a new bridge", "a stadium", "a public pool", "a parking garage", "a museum"],
    "tree": words("apple pear cherry plum walnut olive"),
    "dish": ["fried rice", "grilled fish", "roast chicken", "lentil stew", "mushroom pie"],
    "kind": ["a musical instrument", "a piece of furniture", "a tool", "an appliance", "a book"],
}
MEMBERS = {
    "a musical instrument": ["a violin", "a flute", "a guitar", "a trumpet"],
    "a piece of furniture": ["a desk", "a wardrobe", "a bookcase", "an armchair"],
    "a tool": ["a hammer", "a saw", "a screwdriver", "a wrench"],
    "an appliance": ["a blender", "a toaster", "a vacuum cleaner", "a washing machine"],
    "a book": ["a novel", "a dictionary", "a cookbook", "an atlas"],
}

SCENES = [
    (
        [
            "{a} bought {n} {color} lamps at a market in {city} on {day} and carried them home on "
            "the {ride}.",
            "Last {day}, {a} went to a market in {city}, bought {n} {color} lamps there and "
            "brought them home by {ride}.",
        ],
        ("{a} bought {n} lamps.", "{a} bought {n2} lamps."),
        ("The lamps were bought in {city}.", "The lamps were bought in {city2}."),
        ("The lamps that {a} bought were {color}.", "The lamps that {a} bought were {color2}."),
        ("{a} was at a market on {day}.", "{a} was at a market on {day2}."),
        ("{a} took the lamps home by {ride}.", "{a} took the lamps home by {ride2}."),
        ("The lamps were brought home by {a}.", "The lamps were brought home by {b}."),
    ),
    (
        [
            "{a} beat {b} in the final of the {game} tournament in {city}, although {b} had won "
            "the first {n} games.",
            "In {city}, {b} won the first {n} games of the {game} final, but {a} came back and "
            "beat {b} to win the tournament.",
        ],
        ("{b} was beaten by {a} in the final.", "{a} was beaten by {b} in the final."),
        ("{b} lost the final.", "{a} lost the final."),
        ("{b} won the first {n} games.", "{a} won the first {n} games."),
        ("The {game} tournament was held in {city}.", "The {game} tournament was held in {city2}."),
        ("{a} played against {b} in the final.", "{a} played against {c} in the final."),
    ),
    (
        [
            "In {month}, {a} sent {b} a long letter about {topic}. {b} never answered it but kept "
            "it in a drawer.",
            "The long letter that {a} sent to {b} in {month} was about {topic}. {b} put it in a "
            "drawer for good and never wrote back.",
        ],
        ("{b} received a letter from {a}.", "{a} received a letter from {b}."),
        ("{b} did not answer the letter.", "{b} did not keep the letter."),
        ("{b} kept the letter.", "{b} answered the letter."),
        ("The letter was about {topic}.", "The letter was about {topic2}."),
        ("The letter was sent in {month}.", "The letter was sent in {month2}."),
    ),
    (
        [
            "{a} works as {job} in {city} and is {n} years older than {b}, who lives with {c} in "
            "{city2}.",
            "{b}, who shares a flat with {c} in {city2}, is {n} years younger than {a}, who is "
            "{job} in {city}.",
        ],
        ("{b} is younger than {a}.", "{a} is younger than {b}."),
        ("{a} is {job}.", "{b} is {job}."),
        ("{b} lives in {city2}.", "{b} lives in {city}."),
        ("{a} has a job in {city}.", "{a} has a job in {city2}."),
        ("{b} shares a home with {c}.", "{a} shares a home with {c}."),
    ),
    (
        [
            "The morning train to {town} left {town2} on time, but {weather} on the line delayed "
            "its arrival by {n} hours.",
            "Passengers from {town2} reached {town} {n} hours late. Their train had left on time, "
            "but there was {weather} on the line.",
        ],
        ("The train to {town} arrived late.", "The train to {town} left late."),
        ("The train did not arrive on time.", "The train did not leave on time."),
        ("The train was going to {town}.", "The train was going to {town2}."),
        ("The train was delayed by {weather}.", "The train was delayed by {weather2}."),
        ("The delay was {n} hours long.", "The delay was {n2} hours long."),
    ),
    (
        [
            "In {month}, {a} gave {b} {member} from a small shop in {city}, and {b} was delighted "
            "with it.",
            "{b} was very happy with the present that came from {a} in {month}: {member}, bought "
            "in a small shop in {city}.",
        ],
        ("{a} gave {b} {kind}.", "{a} gave {b} {kind2}."),
        ("{b} was given {member} by {a}.", "{a} was given {member} by {b}."),
        ("{b} got a present from {a}.", "{a} got a present from {b}."),
        ("The gift came from a shop in {city}.", "The gift came from a shop in {city2}."),
        ("{b} liked the gift.", "{b} disliked the gift."),
    ),
    (
        [
            "On {day}, {a} lent {b} {member}, which came back in perfect condition {n} weeks "
            "later.",
            "{b} asked {a} for {member} on {day} and got it as a loan. {b} returned it {n} weeks "
            "later without a scratch.",
        ],
        ("{a} lent {b} {member}.", None),
        ("{b} borrowed {kind} from {a}.", "{a} borrowed {kind} from {b}."),
        ("What {a} lent came back undamaged.", "What {a} lent came back damaged."),
        ("The loan ended after {n} weeks.", "The loan ended after {n2} weeks."),
    ),
    (
        [
            "On {day}, {a} lent {b} {kind}, which came back in perfect condition {n} weeks later.",
            "{b} asked {a} for {kind} on {day} and got it as a loan. {b} returned it {n} weeks "
            "later without a scratch.",
        ],
        (None, "{a} lent {b} {member}."),
        ("{b} borrowed something from {a}.", "{a} borrowed something from {b}."),
        ("{b} returned what {a} had lent.", "{b} lost what {a} had lent."),
    ),
    (
        [
            "The public library in {town} opened in {year} and now holds about {n} thousand "
            "books, most of them in {lang}.",
            "Since {year}, when it opened, the public library in {town} has collected some {n} "
            "thousand books, the majority of them in {lang}.",
        ],
        ("The library opened in {year}.", "The library opened in {year2}."),
        ("There is a public library in {town}.", "There is a public library in {town2}."),
        ("Most books in the library are in {lang}.", "Most books in the library are in {lang2}."),
        ("The library was already open in {later}.", "The library was already open in {earlier}."),
        ("The library has thousands of books.", "The library has millions of books."),
    ),
    (
        [
            "{a}, who teaches {subject} at a school in {city}, spent the summer in {city2} with "
            "{n} friends.",
            "{n} friends joined {a} in {city2} for the whole summer. The rest of the year {a} "
            "teaches {subject} at a school in {city}.",
        ],
        ("{a} teaches {subject}.", "{a} teaches {subject2}."),
        ("{a} works at a school.", "{a} works at a hospital."),
        ("{a} spent the summer in {city2}.", "{a} spent the summer in {city}."),
        ("{a} was not alone in the summer.", "{a} was not in {city2} in the summer."),
    ),
    (
        [
            "{a}, who treats children at a hospital in {city}, spent the summer alone in {city2} "
            "and read {n} books.",
            "As a doctor at a hospital in {city}, {a} has little free time, but this summer {a} "
            "read {n} books, all alone in {city2}.",
        ],
        ("{a} works at a hospital.", "{a} works at a school."),
        ("{a} was in {city2} in the summer.", "{a} was not alone in the summer."),
        ("{n} books were read by {a}.", "{n2} books were read by {a}."),
    ),
    (
        [
            "None of the {n} hikers who left {town} on {day} reached the summit, because "
            "{weather} made the path unsafe.",
            "The {n} hikers set out from {town} on {day}. The path was unsafe because of "
            "{weather}, and every one of them turned back before the summit.",
        ],
        ("No hiker in the group reached the summit.", "One hiker in the group reached the summit."),
        ("The hikers did not reach the summit.", "The hikers reached the summit."),
        ("There were {n} hikers in the group.", "There were {n2} hikers in the group."),
        ("The path was unsafe.", "The path was safe."),
    ),
    (
        [
            "All of the {n} hikers who left {town} on {day} reached the summit, although the path "
            "was steep and long.",
            "The {n} hikers set out from {town} on {day}. The path was long and steep, but every "
            "one of them stood on the summit by noon.",
        ],
        ("One hiker in the group reached the summit.", "No hiker in the group reached the summit."),
        ("The hikers reached the summit.", "The hikers did not reach the summit."),
        ("The hikers left {town} on {day}.", "The hikers left {town} on {day2}."),
        ("The path was steep.", "The path was easy."),
    ),
    (
        [
            "{a} wrote a novel about {topic}, and in {year} it was translated into {lang} by {b}, "
            "who lives in {city}.",
            "Thanks to {b}, who translated it in {year}, readers of {lang} can now enjoy the "
            "novel about {topic} that {a} wrote in {city}.",
        ],
        ("{a} is the author of the novel.", "{b} is the author of the novel."),
        ("{b} translated the novel.", "{a} translated the novel."),
        ("The novel can be read in {lang}.", "The novel can be read in {lang2}."),
        ("The translation was made in {year}.", "The translation was made in {year2}."),
        ("The novel by {a} is about {topic}.", "The novel by {a} is about {topic2}."),
    ),
    (
        [
            "The bakery on {street} Street is open every day except {day}, and it sells {n} kinds "
            "of bread.",
            "There are {n} kinds of bread at the bakery on {street} Street. {day} is the only day "
            "of the week when it is closed.",
        ],
        ("The bakery is closed on {day}.", "The bakery is closed on {day2}."),
        ("The bakery is open on {day2}.", "The bakery is open on {day}."),
        ("The bakery sells {n} kinds of bread.", "The bakery sells {n2} kinds of bread."),
        ("The bakery is on {street} Street.", "The bakery is on {street2} Street."),
    ),
    (
        [
            "A {color} van hit a {color2} car near {street} Street on {day}. Nobody was hurt, and "
            "both drivers waited for the police.",
            "Police said that a {color} van ran into a {color2} car close to {street} Street on "
            "{day}. Both drivers stayed, and no one was hurt.",
        ],
        ("The car was hit by a {color} van.", "The car was hit by a {color2} van."),
        ("No one was injured in the accident.", "Someone was injured in the accident."),
        ("The accident happened on {day}.", "The accident happened on {day2}."),
        ("The drivers stayed at the scene.", "The drivers fled from the scene."),
        ("The van was {color}.", "The van was {color2}."),
    ),
    (
        [
            "{a} and {b} ran the same race in {city} on {day}, and {a} crossed the line {n} "
            "minutes before {b}.",
            "At the race through the streets of {city} on {day}, {a} came in first, and {b} came "
            "in {n} minutes later.",
        ],
        ("{b} finished after {a}.", "{a} finished after {b}."),
        ("{a} was faster than {b}.", "{b} was faster than {a}."),
        ("{a} beat {b} by {n} minutes.", "{a} beat {b} by {n2} minutes."),
        ("There was a race in {city}.", "There was a race in {city2}."),
    ),
    (
        [
            "{a} hired {b} to repair the roof of an old barn near {town}, and the work was "
            "finished in {n} days.",
            "It took {b} {n} days to repair the roof of the old barn near {town}, a job for which "
            "{a} had hired {b}.",
        ],
        ("{b} was hired by {a}.", "{a} was hired by {b}."),
        ("The roof of a building was repaired.", "The roof of a building was not repaired."),
        ("The repair took {n} days.", "The repair took {n2} days."),
        ("The barn is near {town}.", "The barn is near {town2}."),
    ),
    (
        [
            "{a} did not attend the meeting on {day} because of a bad cold, so {b} presented the "
            "report to the board alone.",
            "With {a} at home and ill on {day}, it was {b} who came to the meeting and presented "
            "the report.",
        ],
        ("{a} missed the meeting.", "{b} missed the meeting."),
        ("The report was presented by {b}.", "The report was presented by {a}."),
        ("{a} did not attend the meeting.", "{b} did not attend the meeting."),
        ("{a} was ill.", "{b} was ill."),
        ("The meeting took place on {day}.", "The meeting took place on {day2}."),
    ),
    (
        [
            "The company, founded in {city} in {year}, employs about {n} dozen people. It plans "
            "to open a second office in {city2} next {month}.",
            "About {n} dozen people work for the company, which was founded in {year} in {city}. "
            "By {month} it wants to have an office in {city2} too.",
        ],
        ("The company was founded in {city}.", "The company was founded in {city2}."),
        ("A new office is planned in {city2}.", "A new office is planned in {city}."),
        (
            "The company employs about {n} dozen people.",
            "The company employs about {n2} dozen people.",
        ),
        ("The company was founded before {later}.", "The company was founded before {earlier}."),
    ),
    (
        [
            "{a} can read {lang} but not {lang2}, so {b} helped to translate the {n} letters that "
            "had come from {city}.",
            "The {n} letters from {city} were written in {lang2}. {a} reads only {lang}, so {b} "
            "came over and helped with the translation.",
        ],
        ("{a} cannot read {lang2}.", "{a} cannot read {lang}."),
        ("{a} is able to read {lang}.", "{a} is able to read {lang2}."),
        ("{a} was helped by {b}.", "{b} was helped by {a}."),
        ("The letters came from {city}.", "The letters came from {city2}."),
    ),
    (
        [
            "If it rains on {day}, the concert of the youth orchestra of {town} will be held "
            "indoors.",
            "The youth orchestra of {town} plays on {day}. The concert will move indoors in case "
            "of rain, and only then.",
        ],
        (None, "The concert will be held indoors."),
        ("The orchestra of {town} will give a concert.", None),
        ("Rain would move the concert indoors.", "Snow would move the concert indoors."),
    ),
    (
        [
            "Because rain is certain on {day}, the concert of the youth orchestra of {town} will "
            "be held indoors.",
            "The youth orchestra of {town} plays on {day}. It is going to rain that day, so the "
            "concert has been moved indoors.",
        ],
        ("The concert will be held indoors.", "The concert will be held outdoors."),
        (None, "The orchestra of {town2} will give a concert."),
        ("It will rain on {day}.", "It will rain on {day2}."),
    ),
    (
        [
            "{a} is a parent of {b} and a cousin of {c}. All three of them live in {city} and "
            "speak {lang} at home.",
            "{c} lives in {city} with a cousin, {a}, and with {b}, who is the child of {a}. At "
            "home all three speak {lang}.",
        ],
        ("{b} is a child of {a}.", "{a} is a child of {b}."),
        ("{a} and {c} are cousins.", "{a} and {b} are cousins."),
        ("{c} speaks {lang}.", "{c} speaks {lang2}."),
        ("{b} and {c} live in the same city.", "{b} and {c} live in different cities."),
    ),
    (
        [
            "{a} ordered soup and {dish}, while {b} ordered only {dish2}. {a} paid the whole "
            "bill, which came to more than thirty dollars.",
            "{b} ordered nothing but {dish2}, and {a} asked for soup first and then {dish}. In "
            "the end {a} paid for both of them.",
        ],
        ("{b} did not order soup.", "{a} did not order soup."),
        ("The bill was paid by {a}.", "The bill was paid by {b}."),
        ("{a} ordered {dish}.", "{b} ordered {dish}."),
        ("{b} ordered {dish2}.", "{a} ordered {dish2}."),
    ),
    (
        [
            "The council of {town} rejected a plan to build {thing} but approved the money for "
            "{thing2} on {street} Street.",
            "Two plans came before the council of {town}: to build {thing} and to build {thing2}. "
            "The first was turned down, but the second was given the money it needs.",
        ],
        ("The plan to build {thing} was rejected.", "The plan to build {thing2} was rejected."),
        ("There will be money for {thing2}.", "There will be money for {thing}."),
        ("The council approved something.", "The council approved nothing."),
        ("The council did not support {thing}.", "The council did not support {thing2}."),
    ),
    (
        [
            "{a} planted {n} {tree} trees behind the house in {year}, and some of them died in "
            "the dry summer that followed.",
            "Behind the house there were once {n} {tree} trees, planted by {a} in {year}. A few "
            "of them died during a dry summer.",
        ],
        ("Not all of the trees survived.", "All of the trees survived."),
        ("{a} planted {tree} trees.", "{a} planted {tree2} trees."),
        ("{n} trees were planted by {a}.", "{n} trees were planted by {b}."),
        ("Some of the trees died.", "None of the trees died."),
        ("The trees were planted after {earlier}.", "The trees were planted after {later}."),
    ),
]
