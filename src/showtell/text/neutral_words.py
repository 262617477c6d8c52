"""English words that say somebody's gender, and what takes their place.

``neutral.py`` has the grammar by which a caption with them is rewritten.
"""

from collections.abc import Sequence


def word_set(words: str) -> frozenset[str]:
    """Words with spaces between."""
    return frozenset(words.split())


_LINES = """
man: person; men: people; woman: person; women: people; womans: person; mans: person
guy: person; guys: people; dude: person; dudes: people; fella: person; fellas: people
lady: person; ladies: people; gentleman: person; gentlemen: people; gent: person; gents: people
gal: person; gals: people; lad: child; lads: children; lass: child; chap: person; chaps: people
bloke: person; blokes: people
boy: child; boys: children; girl: child; girls: children; schoolboy: student; schoolboys: students
schoolgirl: student; schoolgirls: students
mother: parent; mothers: parents; father: parent; fathers: parents; mom: parent; moms: parents
mum: parent; mums: parents; mommy: parent; mama: parent; dad: parent; dads: parents; daddy: parent
grandmother: grandparent; grandmothers: grandparents; grandfather: grandparent
grandfathers: grandparents; grandma: grandparent; grandpa: grandparent; granddad: grandparent
son: child; sons: children; daughter: child; daughters: children; stepson: stepchild
grandson: grandchild; grandsons: grandchildren; granddaughter: grandchild
granddaughters: grandchildren
brother: sibling; brothers: siblings; sister: sibling; sisters: siblings
uncle: relative; uncles: relatives; aunt: relative; aunts: relatives; nephew: relative
nephews: relatives; niece: relative; nieces: relatives
husband: spouse; husbands: spouses; wife: spouse; wives: spouses
boyfriend: partner; boyfriends: partners; girlfriend: partner; girlfriends: partners
bride: newlywed; brides: newlyweds; groom: newlywed; grooms: newlyweds
bridegroom: newlywed; bridesmaid: wedding attendant; bridesmaids: wedding attendants
groomsman: wedding attendant; groomsmen: wedding attendants
actress: actor; actresses: actors; waitress: server; waitresses: servers; waiter: server
waiters: servers; hostess: host; hostesses: hosts; stewardess: flight attendant
stewardesses: flight attendants; housewife: homemaker; housewives: homemakers
ballerina: ballet dancer; ballerinas: ballet dancers; heroine: hero
policeman: police officer; policemen: police officers; policewoman: police officer
policewomen: police officers; fireman: firefighter; firemen: firefighters
firewoman: firefighter; firewomen: firefighters
businessman: businessperson; businessmen: businesspeople; businesswoman: businessperson
businesswomen: businesspeople; fisherman: fisher; fishermen: fishers; fisherwoman: fisher
mailman: mail carrier; mailmen: mail carriers; postman: mail carrier; postmen: mail carriers
milkman: milk carrier; salesman: salesperson; salesmen: salespeople; saleswoman: salesperson
handyman: repair worker; repairman: repair worker; repairmen: repair workers
workman: worker; workmen: workers; craftsman: craftsperson; craftsmen: craftspeople
cameraman: camera operator; cameramen: camera operators; doorman: doorkeeper
foreman: supervisor; gunman: shooter; gunmen: shooters; lineman: line worker; linemen: line workers
serviceman: service member; servicemen: service members; servicewoman: service member
spokesman: spokesperson; spokeswoman: spokesperson; chairman: chairperson; chairwoman: chairperson
sportsman: athlete; sportsmen: athletes; sportswoman: athlete; sportswomen: athletes
horseman: rider; horsemen: riders; horsewoman: rider; horsewomen: riders
cowboy: cowhand; cowboys: cowhands; cowgirl: cowhand; cowgirls: cowhands
baseman: base player; basemen: base players; oarsman: rower; oarsmen: rowers
boatman: boater; boatmen: boaters; huntsman: hunter; frogman: diver; frogmen: divers
hitman: shooter; lifeguardsman: lifeguard; guardsman: guard
guardsmen: guards; clergyman: cleric; clergymen: clerics; garbageman: garbage collector
garbagemen: garbage collectors; weatherman: weather presenter; newsman: reporter
tribesman: villager; tribesmen: villagers; tribeswoman: villager; crewman: crew member
crewmen: crew members; strongman: weightlifter; stuntman: stunt performer
stuntmen: stunt performers; showman: performer; anchorman: news presenter
"""
NOUNS: dict[str, tuple[str, ...]] = {
    word: tuple(other.split())
    for word, other in (
        pair.strip().split(": ") for pair in _LINES.replace("\n", ";").split(";") if pair.strip()
    )
}
"""Nouns that say a gender, and what takes their place."""

_PHRASES = """
baby boy: baby; baby girl: baby; baby boys: babies; baby girls: babies
teenage boy: teenager; teenage girl: teenager; teenage boys: teenagers; teenage girls: teenagers
teen boy: teenager; teen girl: teenager; teen boys: teenagers; teen girls: teenagers
toddler boy: toddler; toddler girl: toddler; toddler boys: toddlers; toddler girls: toddlers
teenage male: teenager; teenage female: teenager; teenaged boy: teenager; teenaged girl: teenager
ball boy: ball kid; ball girl: ball kid; ball boys: ball kids; ball girls: ball kids
bat boy: bat kid; bat boys: bat kids
boy scout: scout; boy scouts: scouts; girl scout: scout; girl scouts: scouts
bride and grooms: newlyweds
flower girl: flower bearer; flower girls: flower bearers; best man: wedding attendant
cowboy hat: western hat; cowboy hats: western hats; cowboy boots: western boots
cowgirl hat: western hat; cowgirl boots: western boots; cowboy outfit: western outfit
adult male: adult; adult female: adult; adult males: adults; adult females: adults
adult man: adult; adult woman: adult; adult men: adults; adult women: adults
grown man: adult; grown men: adults; grown woman: adult
male adult: adult; female adult: adult; male adults: adults; female adults: adults
man made: artificial; man hole: manhole; lady bug: ladybug; lady bugs: ladybugs
police man: police officer; police men: police officers; police woman: police officer
fire man: firefighter; fire men: firefighters; business man: businessperson
business men: businesspeople; business woman: businessperson; mail man: mail carrier
sales man: salesperson; fisher man: fisher; camera man: camera operator
no man 's land: wasteland; he or she: they; she or he: they; he and she: they; she and he: they
his or her: their; her or his: their; his and her: their; her and his: their; him or her: them
men 's room: restroom; men 's restroom: restroom; men 's bathroom: bathroom
women 's room: restroom; women 's restroom: restroom; women 's bathroom: bathroom
ladies room: restroom; ladies ' room: restroom; mens room: restroom
"""
PHRASES: dict[tuple[str, ...], tuple[str, ...]] = {
    tuple(words.split()): tuple(other.split())
    for words, other in (
        pair.strip().split(": ") for pair in _PHRASES.replace("\n", ";").split(";") if pair.strip()
    )
}
"""Words that have another meaning together, and what takes their place."""

PRONOUNS = frozenset(["he", "she", "him", "her", "his", "hers", "himself", "herself"])
SEXES = frozenset(["male", "males", "female", "females"])
GENDERED = frozenset(NOUNS) | PRONOUNS | SEXES
"""Every word that ``neutral`` never leaves in a caption."""

_PLURAL_PRONOUNS = ("they", "them", "their", "theirs", "themselves")
WRITTEN: dict[tuple[str, ...], frozenset[str]] = {
    **{other: frozenset(other) - {*words} for words, other in PHRASES.items()},
    **{other: frozenset(other) for other in NOUNS.values()},
    **{(word,): frozenset([word]) for word in _PLURAL_PRONOUNS},
}
"""What ``neutral`` writes in place of other words, and which words of it were not there before."""


def may_bring(phrase: Sequence[str]) -> tuple[str, ...] | None:
    """What ``neutral`` may write so that a caption has a phrase that it had not; None: nothing.

    "police officer" brings "officer" and "a police", and no "police car".
    """
    for written, new in WRITTEN.items():
        for start in range(
            1 - len(written), len(phrase)
        ):  # of ``written``, from the phrase's start
            shared = range(max(start, 0), min(start + len(written), len(phrase)))
            is_new = any(phrase[place] in new for place in shared)
            if is_new and all(phrase[place] == written[place - start] for place in shared):
                return written
    return None


OF_ONE = word_set(
    "young younger little small tiny big tall old older elderly middle-aged adult smiling happy "
    "pretty beautiful sexy handsome blond blonde asian black white second third single lone "
    "pregnant bald bearded topless shirtless barefoot naked nude blind homeless tanned thin skinny "
    "slim heavy heavyset overweight fat muscular short cute lovely attractive sad angry surprised "
    "muslim hispanic latino african american european indian chinese japanese korean arab"
)
"""With one of these before it, a noun of several after "a" is meant of one: "a young women"."""

AFTER_ROLE = word_set(
    "player players team teams soccer basketball tennis volleyball softball baseball hockey "
    "football "
    "rugby lacrosse athlete athletes surfer surfers skier skiers skater skaters dancer dancers "
    "gymnast gymnasts swimmer swimmers runner runners wrestler wrestlers boxer boxers rider riders "
    "cheerleader cheerleaders student students singer singers artist artists worker workers "
    "snowboarder snowboarders skateboarder skateboarders cyclist cyclists golfer golfers"
)
"""Before these a word for men or women says only of which gender they are."""
