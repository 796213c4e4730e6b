"""Facts and word lists of which `make_samples.py` builds the instruction sample."""

from sample_scenes import words

CAPITALS = {
    "France": "Paris",
    "Japan": "Tokyo",
    "Canada": "Ottawa",
    "Egypt": "Cairo",
    "Peru": "Lima",
    "Norway": "Oslo",
    "Kenya": "Nairobi",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "Greece": "Athens",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Cuba": "Havana",
    "Thailand": "Bangkok",
    "Ireland": "Dublin",
    "Germany": "Berlin",
    "Australia": "Canberra",
    "Hungary": "Budapest",
    "Finland": "Helsinki",
}
OPPOSITES = [
    ("hot", "cold"),
    ("early", "late"),
    ("empty", "full"),
    ("heavy", "light"),
    ("narrow", "wide"),
    ("young", "old"),
    ("open", "closed"),
    ("quiet", "loud"),
    ("rich", "poor"),
    ("smooth", "rough"),
    ("strong", "weak"),
    ("happy", "sad"),
    ("tall", "short"),
    ("wet", "dry"),
    ("deep", "shallow"),
    ("fast", "slow"),
]
PLURALS = [
    ("child", "children"),
    ("mouse", "mice"),
    ("leaf", "leaves"),
    ("city", "cities"),
    ("tooth", "teeth"),
    ("box", "boxes"),
    ("knife", "knives"),
    ("woman", "women"),
    ("berry", "berries"),
    ("goose", "geese"),
    ("potato", "potatoes"),
    ("wolf", "wolves"),
]
# unit, smaller unit, how many of the smaller one make one of the larger
UNITS = [
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("kilometers", "meters", 1000),
    ("meters", "centimeters", 100),
    ("kilograms", "grams", 1000),
    ("feet", "inches", 12),
    ("yards", "feet", 3),
    ("dollars", "cents", 100),
]
WORDS = words(
    "garden planet window basket river candle market pencil silver button forest engine island "
    "ladder mirror orange pepper rabbit summer ticket valley winter yellow anchor bridge carrot "
    "dragon feather guitar hammer jacket kitchen lemon needle ocean"
)
SENTENCES = [
    "The small boat crossed the lake before noon.",
    "My neighbor grows tomatoes behind the garage.",
    "Every student brought a book and a pencil.",
    "Snow covered the road to the village.",
    "She painted the kitchen door bright green.",
    "Two birds built a nest under our roof.",
    "The train to the coast leaves at nine.",
    "He forgot his umbrella on the bus again.",
    "Fresh bread smells wonderful in the morning.",
    "We walked along the river until sunset.",
    "Nobody noticed the cat behind the curtain.",
    "A loud whistle ended the game.",
]
GROUPS = {
    "fruit": words("apple banana cherry pear mango grape"),
    "vegetable": words("carrot onion cabbage cauliflower leek turnip"),
    "bird": words("eagle sparrow owl penguin robin pigeon"),
    "fish": words("salmon tuna trout cod herring sardine"),
    "mammal": words("dolphin horse whale rabbit bat camel"),
    "insect": words("ant beetle butterfly bee mosquito moth"),
    "metal": words("iron copper gold silver zinc lead"),
    "musical instrument": words("violin trumpet piano flute drum harp"),
    "tree": words("oak birch maple willow pine cedar"),
}
# Pairs of groups in which no member of one could be taken for a member of the other.
RIVALS = [
    ("fruit", "vegetable"),
    ("bird", "insect"),
    ("fish", "mammal"),
    ("metal", "musical instrument"),
    ("mammal", "bird"),
    ("tree", "fish"),
]
REVIEWS = {
    "positive": [
        "The waiter was friendly, the soup was hot, and I would gladly come back.",
        "This lamp was easy to put together and gives a warm, pleasant light.",
        "We loved the quiet rooms, and breakfast was the best of the whole trip.",
        "The plot kept me guessing until the end. I read it in one sitting.",
        "After a year of daily use the backpack still looks new. Money well spent.",
        "The guide knew every story in town, and my children asked to go again.",
        "Great sound, light on the ears, and the battery lasts for two full days.",
        "The dentist explained each step, and nothing hurt at all. I recommend her.",
    ],
    "negative": [
        "The soup was cold, the waiter ignored us, and we left hungry.",
        "Two screws were missing, and the lamp broke on the second evening.",
        "The room smelled of smoke and the walls were so thin that nobody slept.",
        "I gave up after fifty pages. The plot goes nowhere and the jokes fall flat.",
        "The zipper tore within a week, and the shop refused to take the bag back.",
        "The tour started an hour late and the guide did not know the way.",
        "Poor sound, a weak battery, and they hurt my ears after ten minutes.",
        "I waited two hours and was sent home without being seen. Never again.",
    ],
}
REPORTS = {
    "sports": [
        "The home side scored twice in the last ten minutes and won the cup.",
        "She broke the national record in the long jump on her final attempt.",
        "The goalkeeper saved two penalties, and the match ended without a goal.",
        "The rider crossed the finish line alone after a climb of twelve miles.",
    ],
    "cooking": [
        "Fry the onions until they are golden, then add the rice and the stock.",
        "Let the dough rest for an hour before you roll it out and bake it.",
        "A pinch of salt brings out the flavor of a dark chocolate sauce.",
        "Whisk the eggs with sugar, fold in the flour, and butter the pan.",
    ],
    "weather": [
        "Heavy rain is expected in the north, with strong winds along the coast.",
        "The night will be clear and cold, with frost in the valleys by dawn.",
        "A warm front brings sunshine and light clouds for the whole weekend.",
        "Thunderstorms may reach the south by evening, followed by cooler air.",
    ],
    "music": [
        "The quartet opened with a slow movement for two violins and a cello.",
        "Her new album mixes folk songs with the sound of an old church organ.",
        "The choir rehearsed the final chorus until every voice was in tune.",
        "A young pianist played three sonatas and was called back for an encore.",
    ],
}

JOBS = ["nurse", "teacher", "baker", "lawyer", "pilot", "carpenter", "dentist", "librarian"]
LANGUAGES = words("French Spanish Arabic German Hindi Polish Swahili Turkish")
EVENTS = ["book fair", "flower show", "jazz concert", "chess tournament", "bake sale", "play"]
PLACES = ["town hall", "public library", "old theater", "school gym", "community center"]
GOODS = ["notebooks", "candles", "coffee mugs", "towels", "flower pots", "light bulbs", "cushions"]
# Paragraphs, each in two wordings.
PROFILE = (
    "{name} was born in {town} on {month} {date}, {year}, as the youngest of {children} children. "
    "{name} studied in {town2}, speaks {lang} and {lang2}, and now works as a {job} in {town3}.",
    "The new {job} in {town3} is {name}, who speaks {lang} and {lang2} and studied in {town2}. "
    "The youngest of {children} children, {name} was born on {month} {date}, {year}, in {town}.",
)
NOTICE = (
    "The {event} in {town} takes place on {day}, {month} {date}, at the {place}. Doors open at "
    "{hour} p.m., and a ticket costs {price} dollars. For "
    "questions, please call {name} {surname}.",
    "Come to the {place} in {town} for this year's {event}! We look forward to seeing you on "
    "{day}, {month} {date}, from {hour} p.m., when the doors open. {name} {surname} sells the "
    "tickets at {price} dollars each and is glad to answer your questions by telephone.",
)
ORDER = (
    "Order {code} was placed by {name} {surname} on {month} {date}. It contains {n} {good} and "
    "{m} {good2}, and it will be shipped to {town} within {days} days.",
    "Dear {name} {surname}, thank you for your order of {month} {date}. We are packing {n} {good} "
    "and {m} {good2}, which should reach you in {town} in {days} days. Your order number is "
    "{code}.",
)
TRIP = (
    "{name} and {name2} left {town} at {hour} in the morning and drove {miles} miles to {town2}. "
    "They stopped once, in {town3}, where {name2} bought {n} sandwiches and {name} filled the "
    "tank.",
    "It is {miles} miles by car from {town} to {town2}. {name} and {name2} set out at {hour} in "
    "the morning and took one break on the way: in {town3}, {name} filled the tank while {name2} "
    "bought {n} sandwiches.",
)
SHELTER = (
    "The animal shelter on {street} Street in {town} is run by {name} {surname} and looks after "
    "{n} dogs, {m} cats and {k} rabbits. It is open every day except {day}, and a visit is free.",
    "{name} {surname} runs a small animal shelter in {town}. At the moment {m} cats, {n} dogs and "
    "{k} rabbits live in the house on {street} Street. Visits are free and possible on every day "
    "of the week but {day}.",
)
# Questions about each kind of paragraph, with the slot that answers them.
QUESTIONS = {
    PROFILE: [
        ("Where was {name} born?", "{town}"),
        ("Extract the date of birth from the text.", "{month} {date}, {year}"),
        ("What does {name} do for a living?", "{name} works as a {job}."),
        ("List the languages that {name} speaks.", "{lang}, {lang2}"),
        ("In which town did {name} study?", "{town2}"),
        ("Who is the text about? Give only the name.", "{name}"),
        ("In what year was {name} born?", "{year}"),
        ("Was {name} born in {town}?", "Yes, {name} was born in {town}."),
        ("Does {name} work in {town2}?", "No, {name} works in {town3}."),
        ("How many siblings does {name} have?", "{name} has {siblings} siblings."),
    ],
    NOTICE: [
        ("On what date is the {event}? Give the month and the day.", "{month} {date}"),
        ("What does one ticket cost?", "One ticket costs {price} dollars."),
        ("What do {k} tickets cost together?", "{k} tickets cost {total_price} dollars."),
        ("Whom should I call with questions?", "{name} {surname}"),
        ("When do the doors open?", "{hour} p.m."),
        ("Where in {town} does the {event} take place?", "At the {place}."),
        ("Is the {event} on a {day}?", "Yes, it is on {day}, {month} {date}."),
        ("Is the {event} on a {day2}?", "No, it is on {day}, {month} {date}."),
        ("What kind of event is announced?", "A {event}."),
    ],
    ORDER: [
        ("Extract the order number.", "{code}"),
        ("Who placed the order?", "{name} {surname}"),
        ("To which town will the order be shipped?", "{town}"),
        ("How many items does the order contain in total?", "The order contains {total} items."),
        ("How many {good2} were ordered?", "{m}"),
        ("On what date was the order placed?", "{month} {date}"),
        ("Does the order contain {good}?", "Yes, it contains {n} {good}."),
        ("Does the order contain {good3}?", "No, it contains {good} and {good2}."),
        ("Give the last name of the customer.", "{surname}"),
    ],
    TRIP: [
        ("How far did {name} and {name2} drive?", "They drove {miles} miles."),
        ("Where did the trip start?", "{town}"),
        ("Where did {name} and {name2} stop on the way?", "{town3}"),
        ("Who bought the sandwiches?", "{name2}"),
        ("Who filled the tank?", "{name}"),
        ("At what time did the trip start?", "At {hour} in the morning."),
        ("Did {name} buy the sandwiches?", "No, {name2} bought the sandwiches."),
        ("Did the trip end in {town2}?", "Yes, it ended in {town2}."),
        ("List the towns in the text in the order of the trip.", "{town}, {town3}, {town2}"),
    ],
    SHELTER: [
        ("How many animals live in the shelter?", "The shelter looks after {animals} animals."),
        ("Who runs the shelter?", "{name} {surname}"),
        ("On which day is the shelter closed?", "{day}"),
        ("On which street is the shelter?", "{street} Street"),
        ("How many cats does the shelter have?", "{m}"),
        ("Are there more dogs than cats in the shelter?", "{more_dogs}"),
        ("Does a visit cost anything?", "No, a visit is free."),
        ("Is the shelter open on {day2}?", "Yes, it is closed only on {day}."),
        ("How many dogs and cats are there together?", "{total} dogs and cats."),
    ],
}
