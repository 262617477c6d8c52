"""Words that keep their full stop, as the Penn Treebank tokeniser of COCO's scorer knows them.

The lists were found by asking CoreNLP 3.4.1's ``PTBTokenizer`` for every word of up to five
letters, for every word of COCO 2014's captions and for some 300 usual abbreviations, in lower
case, capitalised and in capitals, before a word, a number, a capital and the end of a line.
Single letters keep their stop too (``lexer.py`` knows that by itself).
"""

_ANY_CASE = """
adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bancorp bhd bldg blvd brig bros
calif capt cf cie cmdr co col colo comdr conn corp cos cpl ct dak dec dept det dr drs elec ens esq
est etc ext feb fla fri ft ga gen gov govs hon inc ind insp intl invt jan jos jr jul jun kan kans ky
lieut lt ltd maj mar md messrs mich minn mlle mme mo mon mont mr mrs ms msgr mt natl neb nev nov oct
okla penn pfc ph plc pres prof profs pvt rd rep reps rev rt sen sens sep sept seq sfc sgt spc sq sr
st ste supt supts sys tel tenn thu thurs treas tue tues univ va vs vt wed wis wisc wm wyo
"""
_CAPITALISED = "ark az del ill la mass miss ore pa tex wash"
_FIRST_CASE = "mfg mtg ppte pptes ppty pptys pte ptes pty ptys"
_BEFORE_NUMBER = "art ca fig figs no nos op pp prop"

ANY_CASE = frozenset(_ANY_CASE.split())
"""Abbreviations in any mixture of cases."""

CAPITALISED = frozenset(_CAPITALISED.split())
"""Also words by themselves, so abbreviations only with a capital: "Wash.", "La."."""

FIRST_CASE = frozenset(_FIRST_CASE.split())
"""Only their first letter may be a capital."""

BEFORE_NUMBER = frozenset(_BEFORE_NUMBER.split())
"""Abbreviations only where a number follows: "No. 5", "fig. 2"."""
