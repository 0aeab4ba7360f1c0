"""The vocabulary of the stories: who, where, when, and what the stories are about.

A topic is a small record whose fields fit together: rain asks for an umbrella, a rabbit for a carrot. That
is the causality which a language model of these stories can learn.
"""

from __future__ import annotations

Topic = dict[str, str]

GIRLS = (
    "Anna", "Bella", "Clara", "Daisy", "Emma", "Fiona", "Grace", "Hannah", "Ida", "Julia", "Kate", "Lily",
    "Maria", "Nora", "Olivia", "Paula", "Rosa", "Sarah", "Tina", "Vera", "Wendy", "Zoe",
)  # fmt: skip
BOYS = (
    "Adam", "Ben", "Carl", "David", "Eric", "Frank", "George", "Henry", "Ivan", "Jack", "Kevin", "Leo",
    "Martin", "Nick", "Oscar", "Peter", "Ralph", "Simon", "Tom", "Victor", "Walter", "Max",
)  # fmt: skip

PLACES = (
    "in the garden", "in the park", "at the market", "by the river", "in the kitchen", "at school",
    "on the beach", "in the forest", "on the farm", "near the bridge", "at the station", "in the old barn",
    "by the lake", "in the village", "behind the church", "on the hill", "in the library",
    "at the harbour", "in the meadow", "under the big tree", "at the museum", "in the attic",
    "next to the mill", "on the playground",
)  # fmt: skip

TIMES = (
    "One morning", "On Monday", "On Sunday", "Yesterday", "Last summer", "In the evening", "After lunch",
    "One cold day", "Before breakfast", "Last week", "On a quiet afternoon", "In spring", "At noon",
    "One night",
)  # fmt: skip

ADJECTIVES = (
    "red", "blue", "green", "yellow", "small", "big", "new", "old", "shiny", "heavy", "soft", "round",
    "broken", "tiny", "golden", "strange",
)  # fmt: skip

SPOTS = (
    "under the bed", "behind the door", "on the table", "in a box", "under a bush", "between two stones",
    "on the roof", "in a basket", "next to the fire", "inside a drawer", "below the stairs",
    "beside the well",
)  # fmt: skip

GLAD = ("happy", "proud", "thankful", "cheerful", "delighted")

_THINGS = (
    "ball", "kite", "hat", "book", "key", "ring", "drum", "lamp", "coat", "cup", "doll", "map", "bell",
    "scarf", "watch", "camera", "mirror", "ladder", "pencil", "letter", "blanket", "bottle", "violin",
    "whistle", "coin", "candle", "bucket", "pillow", "spoon", "button",
)  # fmt: skip
THINGS: tuple[Topic, ...] = tuple({"thing": thing} for thing in _THINGS)

WEATHER: tuple[Topic, ...] = (
    {"weather": "It was raining hard", "item": "umbrella", "result": "stayed dry"},
    {"weather": "It was snowing", "item": "woollen hat", "result": "felt warm"},
    {"weather": "The sun was burning", "item": "straw hat", "result": "kept cool"},
    {"weather": "The wind was icy", "item": "thick coat", "result": "did not freeze"},
    {"weather": "The street was full of mud", "item": "rubber boots", "result": "had clean feet"},
    {"weather": "The fog was thick", "item": "bright lamp", "result": "found the way"},
    {"weather": "The night was very dark", "item": "torch", "result": "could see every stone"},
    {"weather": "The light was too bright", "item": "dark glasses", "result": "could look around"},
    {"weather": "The path was covered with ice", "item": "walking stick", "result": "did not fall"},
    {"weather": "A cold rain began", "item": "long raincoat", "result": "did not get wet"},
)

ANIMALS: tuple[Topic, ...] = (
    {"animal": "dog", "food": "a bone", "then": "wagged its tail"},
    {"animal": "cat", "food": "some milk", "then": "purred softly"},
    {"animal": "rabbit", "food": "a carrot", "then": "hopped in a circle"},
    {"animal": "horse", "food": "an apple", "then": "shook its mane"},
    {"animal": "duck", "food": "some bread", "then": "flapped its wings"},
    {"animal": "goat", "food": "fresh leaves", "then": "jumped over a rock"},
    {"animal": "monkey", "food": "a banana", "then": "climbed up a pole"},
    {"animal": "mouse", "food": "a piece of cheese", "then": "ran into its hole"},
    {"animal": "squirrel", "food": "a nut", "then": "raced up the trunk"},
    {"animal": "parrot", "food": "sunflower seeds", "then": "said thank you"},
    {"animal": "sheep", "food": "a handful of hay", "then": "lay down to sleep"},
    {"animal": "bear", "food": "a jar of honey", "then": "licked its paws"},
)

DISHES: tuple[Topic, ...] = (
    {"dish": "an apple pie", "need": "apples", "smell": "sweet"},
    {"dish": "a chocolate cake", "need": "cocoa", "smell": "wonderful"},
    {"dish": "onion soup", "need": "onions", "smell": "strong"},
    {"dish": "pancakes", "need": "eggs", "smell": "lovely"},
    {"dish": "fresh bread", "need": "flour", "smell": "warm"},
    {"dish": "tomato sauce", "need": "tomatoes", "smell": "rich"},
    {"dish": "rice pudding", "need": "milk and rice", "smell": "mild"},
    {"dish": "fish stew", "need": "two fish", "smell": "salty"},
    {"dish": "lemon tea", "need": "lemons", "smell": "sharp"},
    {"dish": "cheese toast", "need": "cheese", "smell": "delicious"},
)

REPAIRS: tuple[Topic, ...] = (
    {"object": "chair", "problem": "lost a leg", "tool": "hammer", "now": "stands firmly again"},
    {"object": "bicycle", "problem": "had a flat tyre", "tool": "pump", "now": "rolls like new"},
    {"object": "shirt", "problem": "had a hole", "tool": "needle", "now": "looks nice again"},
    {"object": "fence", "problem": "fell over", "tool": "saw", "now": "is straight again"},
    {"object": "clock", "problem": "stopped", "tool": "screwdriver", "now": "ticks again"},
    {"object": "boat", "problem": "had a leak", "tool": "pot of tar", "now": "floats again"},
    {"object": "window", "problem": "would not close", "tool": "knife", "now": "shuts tightly"},
    {"object": "vase", "problem": "broke in two", "tool": "tube of glue", "now": "holds water again"},
    {"object": "radio", "problem": "made no sound", "tool": "battery", "now": "plays music again"},
    {"object": "gate", "problem": "squeaked loudly", "tool": "can of oil", "now": "opens quietly"},
)

JOURNEYS: tuple[Topic, ...] = (
    {"vehicle": "train", "goal": "the city", "trouble": "was late", "instead": "read a long story"},
    {"vehicle": "bus", "goal": "the mountains", "trouble": "broke down", "instead": "walked the last mile"},
    {
        "vehicle": "ship",
        "goal": "the island",
        "trouble": "rocked in the waves",
        "instead": "looked at the stars",
    },
    {"vehicle": "tram", "goal": "the castle", "trouble": "was full", "instead": "stood at the back"},
    {"vehicle": "sledge", "goal": "the valley", "trouble": "was too fast", "instead": "held on tightly"},
    {
        "vehicle": "taxi",
        "goal": "the airport",
        "trouble": "took the wrong road",
        "instead": "asked a policeman",
    },
    {"vehicle": "canoe", "goal": "the waterfall", "trouble": "turned over", "instead": "swam to the shore"},
    {"vehicle": "balloon", "goal": "the desert", "trouble": "lost its air", "instead": "landed in a field"},
)

PLANTS: tuple[Topic, ...] = (
    {"plant": "rose", "grown": "three pink flowers", "care": "watered"},
    {"plant": "bean", "grown": "a green stalk", "care": "tied up"},
    {"plant": "pumpkin", "grown": "a huge orange fruit", "care": "weeded around"},
    {"plant": "cherry tree", "grown": "dark red cherries", "care": "pruned"},
    {"plant": "sunflower", "grown": "a head like a plate", "care": "gave water to"},
    {"plant": "strawberry", "grown": "sweet little berries", "care": "put straw around"},
    {"plant": "potato", "grown": "ten brown potatoes", "care": "heaped earth around"},
    {"plant": "tulip", "grown": "one yellow cup", "care": "looked after"},
)

GAMES: tuple[Topic, ...] = (
    {"game": "chess", "skill": "thought for a long time", "prize": "a wooden horse"},
    {"game": "football", "skill": "scored two goals", "prize": "a silver cup"},
    {"game": "hide and seek", "skill": "sat very still", "prize": "a chocolate coin"},
    {"game": "cards", "skill": "kept the queen until the end", "prize": "a bag of sweets"},
    {"game": "tennis", "skill": "hit every ball", "prize": "a blue ribbon"},
    {"game": "marbles", "skill": "aimed well", "prize": "a glass marble"},
    {"game": "darts", "skill": "had a steady hand", "prize": "a new cap"},
    {"game": "a word game", "skill": "knew the longest word", "prize": "a thick book"},
)

NOISES: tuple[Topic, ...] = (
    {"noise": "a loud bang", "cause": "a door in the wind"},
    {"noise": "a deep growl", "cause": "an old dog that was dreaming"},
    {"noise": "a soft knock", "cause": "a branch against the wall"},
    {"noise": "a long howl", "cause": "the wind in the chimney"},
    {"noise": "quick little steps", "cause": "a hedgehog on its way home"},
    {"noise": "a strange whisper", "cause": "dry leaves on the ground"},
    {"noise": "a high whistle", "cause": "the kettle on the stove"},
    {"noise": "a heavy splash", "cause": "a frog in the pond"},
)
