"""Where and when a prompt is: the words of English that name a place or an hour, in groups that mean the same.

A group stands for the first of its words. Knows no film and no model.
"""

import re
from collections.abc import Iterator
from functools import cache

# One group a line; a name of several words wins over one of fewer.
_PLACES = """
meadow, field, grassland, hill, countryside, pasture, prairie, steppe, savanna
city, town, street, downtown, skyline, avenue, boulevard, metropolis, city street, skyscraper
alley, back street, backstreet, alleyway
desert, dune, sand dune, golden dune, wasteland, sahara
beach, shore, seaside, coast, sea, ocean, seashore, coastline, golden beach
mountain, snowfield, snow, alps, peak, snowy mountain, white mountain, summit, mountainside
forest, wood, woods, woodland, pine forest, jungle, grove, rainforest
garden, backyard, greenhouse, conservatory
orchard, vineyard
park, playground, lawn
rooftop, roof, terrace
balcony, veranda, porch
kitchen, pantry, scullery
bedroom, dormitory
living room, lounge, sitting room, parlour, parlor, fireside
bathroom, washroom
dining room, banquet hall
attic, loft
cellar, basement, crypt, dungeon, vault
corridor, hallway, passage
lobby, foyer, reception, atrium
stairwell, staircase
house, cottage, cabin, hut, villa, mansion, lodge, bungalow
apartment, penthouse
office, boardroom
laboratory, lab, clean room
library, archive, bookshelf, bookshop, bookstore
school, classroom, lecture hall, university, campus
hospital, clinic, operating room, operating theatre, exam room, waiting room
church, cathedral, chapel, abbey, monastery
temple, shrine, pagoda, mosque
cemetery, graveyard, tomb
castle, fortress, palace, citadel, throne room
ruin
museum, gallery
theatre, theater, stage, opera, auditorium, cinema
concert, nightclub, dance floor, discotheque
bar, jazz bar, pub, tavern, saloon
cafe, café, coffee shop, diner, coffeehouse, tea house, teahouse
restaurant, bistro, canteen
bakery, patisserie
shop, store, boutique, supermarket, department store, record shop, mall
market, bazaar, marketplace, stall
hotel, motel, inn, hostel
station, platform, train station, railway station, subway, subway platform, metro, depot
train carriage, railway carriage, compartment
airport, runway, terminal, hangar
cockpit
harbour, harbor, dock, pier, marina, quay, wharf, jetty, shipyard
deck
lighthouse, watchtower
bridge, viaduct
road, highway, motorway, crossroads, roadside
garage, workshop, smithy
factory, warehouse, foundry, assembly line, plant floor
quarry, mineshaft
farm, barn, farmyard, farmhouse, ranch
village, hamlet
plaza, piazza, courtyard, cloister, town square
river, stream, brook, riverbank, creek, canal
lake, pond, lakeside, lagoon
waterfall, rapids
swamp, marsh, bog, wetland
cave, cavern, grotto
canyon, gorge, ravine, cliff
volcano, lava, crater
glacier, iceberg, tundra, arctic, ice field
island, atoll, reef
underwater, seabed, ocean floor, coral reef
aquarium
swimming pool, pool
salt flat
outer space, deep space, orbit, spaceship, spacecraft, space station, starship, airlock
moon base, lunar surface
martian surface
stadium, arena, gym, gymnasium, racetrack
studio, recording studio, pottery studio
prison, jail
courtroom
tent, camp, campsite, campfire
carnival, fairground, amusement park, circus
planetarium, observatory
"""
_HOURS = """
dawn, sunrise, daybreak, morning, early morning
day, daytime, noon, midday, sunny day, sunny, daylight, afternoon
sunset, dusk, evening, golden hour, twilight, blue hour
night, midnight, moonlight, moonlit, nighttime, starlight
"""
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


def stem(word: str) -> str:
    """A word without its plural."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


@cache
def _names() -> dict[tuple[str, ...], tuple[str, str]]:
    """Every name, as stems of its words, to its kind and group."""
    return {
        tuple(map(stem, name.split())): (kind, line.split(",")[0])
        for kind, table in (("place", _PLACES), ("hour", _HOURS))
        for line in table.strip().splitlines()
        for name in map(str.strip, line.split(","))
    }


def whereabouts(prompt: str) -> Iterator[tuple[str, str]]:
    """What a prompt names, in order: groups of places and of hours, and its other words as stems, each with its
    kind."""
    words, names = [stem(word) for word in _WORD.findall(prompt.lower())], _names()
    while words:
        span = next((span for span in (2, 1) if tuple(words[:span]) in names), 0)
        yield names[tuple(words[:span])] if span else ("word", words[0])
        words = words[max(span, 1):]
