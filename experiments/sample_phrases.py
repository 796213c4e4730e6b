"""Phrases of which `make_samples.py` builds the emotion sample: no logic, only English.

Words in braces are slots, filled by the generator. Every phrase is written so that it stays
grammatical, and plausible, with every filler its slots can take.
"""


def lines(block: str) -> list[str]:
    """Return the non-empty lines of a block, one phrase a line."""
    return [line.strip() for line in block.splitlines() if line.strip()]


KIN = ["sister", "brother", "mother", "father", "cousin", "uncle", "aunt", "grandmother"]
PEERS = ["roommate", "neighbor", "boss", "coworker", "teacher", "classmate"]
CONFIDANTS = ["my therapist", "an old friend", "my pen pal", "a friend online"]
TIMES = [
    "yesterday",
    "last week",
    "on monday",
    "on saturday",
    "two days ago",
    "last month",
    "a few days ago",
    "the other day",
]
TOPICS = lines("""
    my new job
    the move
    the wedding next month
    our trip
    my family
    the coming year
    that phone call
    the school reunion
    that conversation
    the party
    my first day at college
    the letter in my pocket
    our old street
    that evening
""")

# Frames by how the feeling shows: named, through a reaction, about a neutral topic, or mixed with
# another feeling, in which case the sentence carries a cue of the wrong class too.
EMOTION_FRAMES = {
    "named": lines("""
        i felt {adverb}{feeling} when {event}
        i feel {adverb}{feeling} because {event}
        {time} {event} and it left me feeling {feeling}
        it still makes me feel {adverb}{feeling} that {event}
        i keep thinking about how {event}, and i feel {feeling}
        i told {confidant} how {feeling} i felt after {event}
        it happened {time}: {event}, and i still feel {adverb}{feeling}
        my journal says that {event} and that i felt {feeling}
        nobody has to ask how i am: i feel {adverb}{feeling} because {event}
        {event}, so of course i am left feeling {feeling}
    """),
    "reaction": lines("""
        {event}, and {reaction}
        {time} {event}, and {reaction}
        {reaction} when {event}
        this is what happened {time}: {event}, and {reaction}
        when {event}, {reaction}
        i told {confidant} that {event} and that {reaction}
    """),
    "topic": lines("""
        i feel {adverb}{feeling} whenever i think about {topic}
        thinking about {topic} makes me feel {feeling} and i am not sure why
        i woke up feeling {feeling} and kept thinking about {topic}
        i do not know why {topic} makes me feel so {feeling}
        i wanted to write about {topic}, but i feel too {feeling} to find the words
        everyone keeps asking about {topic}, and i always answer that i feel {feeling}
        if i am honest, {topic} left me feeling {adverb}{feeling}
    """),
    "mixed": lines("""
        i expected to feel {other}, but when {event} i felt {feeling}
        i did not feel {other} when {event}; i felt {feeling}
        part of me felt {other}, yet mostly i felt {feeling} because {event}
        my friends said i should not feel {other}, but {event} and {reaction}
        i never felt {other} about it; {event} and {reaction}
        i was feeling {other} until {event}, and then {reaction}
        i started the day feeling {other}, and then {event}
        {event}, so i feel {feeling} and not {other}
        i do not feel {other} or {another}, i just feel {feeling} about {topic}
        last year {topic} made me feel {other}, but now it makes me feel {feeling}
    """),
}

# The first four feelings of each class also serve as the wrong cue in another class's sentences.
FEELINGS = {
    "sadness": "sad lonely hopeless unhappy heartbroken gloomy miserable empty down discouraged "
    "hurt defeated sorrowful low dejected melancholy",
    "joy": "happy cheerful delighted content joyful glad thrilled carefree pleased elated "
    "overjoyed satisfied lighthearted ecstatic upbeat jolly",
    "love": "loved affectionate tender cherished loving adored full_of_love devoted warmhearted "
    "treasured cared_for deeply_loved smitten doting warm_and_loving caring",
    "anger": "angry annoyed irritated furious bitter enraged resentful outraged frustrated mad "
    "livid cross fed_up indignant hostile aggravated",
    "fear": "afraid nervous worried anxious scared terrified frightened uneasy panicky shaky "
    "vulnerable fearful tense alarmed helpless_and_scared apprehensive",
    "surprise": "surprised shocked amazed stunned astonished startled dazed speechless astounded "
    "bewildered dumbfounded taken_aback caught_off_guard flabbergasted thunderstruck puzzled",
}

EVENTS = {
    "sadness": lines("""
        my {kin} moved to another country
        the vet told us our old dog would not recover
        my {kin} sold the house i grew up in
        i packed up my {kin}'s clothes after the funeral
        nobody from school came to my party
        my {peer} stopped answering my messages
        i lost the ring my {kin} gave me
        the doctors said nothing more could be done for my {kin}
        the last guests left and the house was empty again
        my application was turned down for the third time
        the little bakery where we always met closed for good
        my cat did not come home
        i spent the holidays alone in my apartment
        my best friend chose someone else for the trip
        i had to give up playing the violin
        i failed the exam i had studied for all year
        i heard my {kin} crying in the next room
        we scattered the ashes by the lake
        my grandmother did not recognize me at the nursing home
        the factory let me go after ten years
        my marriage ended with a short letter
        the garden my {kin} planted was paved over
        i said goodbye to my {kin} at the airport
        the swing in our yard hung still and unused
    """),
    "joy": lines("""
        i passed my driving test on the first try
        my {kin} came home from the hospital healthy
        we finally moved into a house with a garden
        my {peer} said my work was the best of the year
        the sun came out and we ate lunch on the grass
        i finished my first marathon
        my team won the cup
        my {kin} and i danced in the kitchen
        i got the job i had dreamed about
        the children put on a play in the living room
        i found the perfect apartment near the park
        we sang all the way to the coast
        the first tomatoes in my garden turned red
        my painting was chosen for the exhibition
        my {kin} laughed at every one of my jokes
        i heard that my scholarship was renewed
        we played board games by the fire
        school was canceled and we went sledding
        i played a whole song without a single mistake
        my {kin} graduated with honors
        i paid off the last of my debts
        the band played our favorite song at the festival
        i had a free day and fresh snow outside
        my {peer} and i finished the project early
    """),
    "love": lines("""
        my husband left a note in my lunch box
        my daughter fell asleep on my shoulder
        my {kin} held my hand in the hospital
        my wife kissed me at the door
        my son ran across the playground into my arms
        my girlfriend learned to cook my favorite meal
        my grandfather showed me that he had kept all my letters
        my partner stayed up to nurse me through the flu
        we renewed our vows on the beach
        my old dog rested her head on my knee
        my {kin} told me i would always have a home there
        my boyfriend sang to me over the phone
        my husband and i slow danced on the porch
        we walked home arm in arm in the rain
        my fiance wrote a poem about how we met
        my {kin} hugged me and would not let go
        i caught my husband smiling at our wedding pictures
        my partner warmed my cold hands
        my little girl drew our family with hearts all around it
        my wife and i looked into each other's eyes at the station
        my wife remembered the first thing i ever said to her
        the kitten curled up on my chest and purred
        my {kin} knitted me a scarf for the winter
        my children brought me breakfast in bed
    """),
    "anger": lines("""
        my {peer} took credit for my work
        the landlord kept my deposit for no reason
        someone scratched my car and drove off
        my {kin} read my diary without asking
        the airline lost my bag and blamed me
        my {peer} lied to my face
        the company canceled my order without a word
        my {peer} played loud music until three
        they raised the rent again
        a driver cut me off and then shouted at me
        my {kin} broke a promise for the hundredth time
        i was left on hold for two hours
        my {peer} made fun of my accent
        the referee ignored a clear foul
        my {kin} borrowed money and denied it
        a stranger kicked my dog
        they gave my seat to somebody else
        my {peer} interrupted me in every meeting
        the mechanic charged me for work he never did
        my ex spread rumors about me
        the manager refused to listen to my complaint
        someone stole my bike from the front yard
        my {kin} threw out my record collection
        the city cut down our oak trees without asking us
    """),
    "fear": lines("""
        i heard footsteps behind me in the dark
        the plane dropped suddenly over the ocean
        the doctor asked me to come back for more tests
        a strange car followed me home
        i saw smoke coming from under the door
        my {kin} did not answer the phone for hours
        the elevator stopped between two floors
        i had to speak in front of five hundred people
        a huge dog blocked the path and growled
        the lights went out and somebody knocked
        the storm tore the roof off the barn
        i got lost in the forest after sunset
        my {peer} warned me that layoffs were coming
        i found the back door wide open
        the ice cracked under my feet
        the brakes failed on the hill
        a snake slid out of my boot
        i had to walk across the narrow bridge
        the nurse said the surgery was risky
        someone tried the handle of my hotel room
        the ground began to shake
        i lost sight of my child in the crowd
        the boat started to take on water
        i received a threatening letter
    """),
    "surprise": lines("""
        my {kin} showed up at the door with a suitcase
        i won a prize in a contest i had forgotten about
        my quiet {peer} turned out to be a champion boxer
        my {kin} told me about a twin i never knew i had
        the box i bought at a yard sale was full of gold coins
        it snowed in the middle of july
        my {peer} quit without any warning
        my {kin} announced a wedding at dinner out of nowhere
        the package contained something i had never ordered
        i ran into my first teacher on the other side of the world
        the lights came on and everyone i knew was in the room
        my parrot answered me in french
        my {kin} came back from the barber with green hair
        the results were nothing like what we had predicted
        a letter mailed thirty years ago arrived
        the magician pulled my watch out of a lemon
        the shy boy next door gave a brilliant speech
        my {kin} beat the champion without ever training
        the last page of the book turned the whole story around
        i saw my own face on a poster downtown
        the broken radio began to play by itself
        the bill was only half of what i had thought
        my {peer} spoke to me in perfect japanese
        a deer walked into the shop
    """),
}

REACTIONS = {
    "sadness": lines("""
        i cried for a long time
        i could not stop the tears
        i stayed in bed with the curtains closed
        i did not want to talk to anyone
        i sat alone in silence
        i wept quietly
        i missed how things used to be
        my chest ached for days
        i stared at the wall until it got dark
    """),
    "joy": lines("""
        i could not stop smiling
        i hummed for the rest of the day
        i wanted to dance
        i laughed out loud
        i clapped my hands like a child
        i grinned from ear to ear
        i felt ten years younger
        i wished the day would never end
        i thought that life is good
    """),
    "love": lines("""
        my heart felt completely full
        i wanted to stay in that moment forever
        i thought about how much they all mean to me
        i knew where i belong
        i wanted to give the biggest hug in the world
        i felt warm from head to toe
        i could not imagine life without the ones i hold dear
        i melted inside
        i promised myself to hold on to what we have
    """),
    "anger": lines("""
        i slammed my fist on the table
        i wanted to shout
        i clenched my teeth
        my blood was boiling
        i swore under my breath
        i wanted to throw my phone at the wall
        i could have screamed
        my face went hot and i started to yell
        i thought about revenge
    """),
    "fear": lines("""
        my hands would not stop shaking
        i could not sleep that night
        my heart pounded in my throat
        i held my breath
        a cold sweat ran down my back
        my knees nearly gave way
        i imagined the worst
        i wanted to run away
        i started to pray
    """),
    "surprise": lines("""
        my jaw dropped
        i could not believe it
        i just stood there blinking
        i asked if it was a joke
        i had not seen it coming
        it took me a minute to find any words
        i nearly fell over
        my eyebrows went up and stayed there
        i had to sit down and take it in
    """),
}
