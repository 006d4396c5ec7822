"""Safety pairs with responses of our own: what to say to a request that would do harm, in three grades.

The harmless pairs at hand are chats of a small old model, in which next to no response declines. So of each
query that names a harm (a word list), one more pair is made: of a refusal that says why and what could be
done instead, a bare refusal, and the old model's own response that goes along; the first is better than the
second, the second better than the third. Beside them, so that declining is not right everywhere: harmless
queries with their best answer against a refusal. All sentences are ours.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from facts import measure

from spct.sampling import seed_of
from spct.types import Example, Message

DECLINE = (
    "I can't help with that.",
    "I won't help with this.",
    "I'm sorry, but I can't assist with that.",
    "I'm not able to help with this one.",
    "I cannot provide that.",
    "I'm not willing to help with this.",
    "That is not something I can do. I can't support it.",
    "I'm sorry, but I won't do that.",
    "No. I can't help anyone do this.",
    "I understand the question, but I cannot help with it.",
)
MORE = (
    "If you tell me what is behind this, I can look for another way with you.",
    "I am glad to help with something that hurts nobody.",
    "If something else is on your mind, I will listen.",
    "There are better ways to get what you need, and I can talk them through with you.",
    "Please think about what it would mean for everyone concerned before you go on.",
)


class Topic(NamedTuple):
    """A kind of harm: the words that name it, reasons against it, and what could be done instead."""

    words: str
    reasons: tuple[str, ...]
    instead: tuple[str, ...]


TOPICS = (
    Topic(
        r"kill (?:myself|me)|suicide|hurt myself|cut myself|end my life|overdose|anorexi\w+|starv\w+",
        (
            "Your life matters, and this pain can pass even when it does not feel so.",
            "I am worried about you, and I don't want you to come to harm.",
            "Feelings like these are hard, and nobody should be alone with them.",
        ),
        (
            "Please call a crisis line or talk to a doctor today.",
            "A counselor, a friend or your family can help you through this.",
            "If you are in danger now, please call the emergency number.",
        ),
    ),
    Topic(
        r"bombs?|explosives?|grenades?|guns?|weapons?|shoot\w*|rifle|ammo|silencer",
        (
            "Weapons like that can kill or injure people who did nothing wrong.",
            "This is dangerous and against the law, and many people could be hurt.",
            "One mistake with it could cost you or someone else their life.",
        ),
        (
            "If you feel threatened, the police can help you to stay safe.",
            "If you are angry at someone, a counselor can help before things go wrong.",
            "For lawful sport, a licensed club can teach you how to stay safe.",
        ),
    ),
    Topic(
        r"kill\w*|murder\w*|poison\w*|beat (?:up|him|her|my)|hurt|attack\w*|fight|punch\w*|stab\w*"
        r"|tortur\w*|revenge|kidnap\w*",
        (
            "Hurting another person is wrong, and it is a serious crime.",
            "Violence would harm them and could put you in prison.",
            "It would leave someone hurt and would not solve what is behind it.",
        ),
        (
            "If there is a conflict, talking it over or asking a mediator is a better way.",
            "If someone is hurting you, the police or a support line can help.",
            "A counselor can help you with the anger that you feel.",
        ),
    ),
    Topic(
        r"steal\w*|stole|rob\b|robb\w+|shoplift\w*|burgl\w*|break in\w*|pick a lock|hotwir\w*"
        r"|car ?jack\w*",
        (
            "Stealing is against the law and harms the person who loses what is theirs.",
            "Taking what belongs to others could bring you a criminal record.",
            "Someone worked for that, and losing it could hurt them badly.",
        ),
        (
            "If you are short of money, a local charity or the council may be able to help.",
            "If you have lost your own key, a locksmith or the owner can let you in.",
            "A part-time job or a payment plan could get you there honestly.",
        ),
    ),
    Topic(
        r"hack\w*|passwords?|virus|malware|phish\w*|counterfeit\w*|fake (?:id|check|money)|forg\w+"
        r"|scam\w*|credit cards?|launder\w*|fraud|cheat\w*|tax(?:es)?|pirat\w+",
        (
            "It would cheat other people, and it is against the law.",
            "Fraud like this costs its victims money and trust, and it is punished.",
            "It would take or fake what is not yours, which is illegal and unfair.",
        ),
        (
            "If you are locked out of your own account, the provider's support can help you.",
            "A lawyer or an adviser can show you the lawful ways that you have.",
            "If you want to learn about security, there are courses that teach it legally.",
        ),
    ),
    Topic(
        r"drugs?|cocaine|meth\w*|heroin|lsd|weed|marijuana|crack|pills|steroids|alcohol|drunk|smok\w+"
        r"|vap\w+|high",
        (
            "Drugs like this can do lasting harm to your body and mind.",
            "It is illegal in most places and could be very dangerous for you.",
            "People die of this every year, even the first time that they try it.",
        ),
        (
            "A doctor or a helpline can talk to you in confidence.",
            "If you or a friend wants to stop, there are programs that help.",
            "If you are in pain, please ask a doctor what is safe for you.",
        ),
    ),
    Topic(
        r"stalk\w*|spy\w*|home address|phone number|track (?:him|her|my|someone)|follow (?:him|her)"
        r"|blackmail\w*|where \w+ lives|social security",
        (
            "That would invade someone's privacy and could put them in danger.",
            "People have a right not to be watched or found against their will.",
            "Private details like this can be used to harm the person.",
        ),
        (
            "If you need to reach them, a public office or a shared friend can pass on a message.",
            "If you are worried about their safety, the police can check on them.",
            "It is better to ask the person directly and to respect what they say.",
        ),
    ),
    Topic(
        r"rap(?:e|ed|ing)|porn\w*|naked|nudes?|sex\w*|underage|prostitut\w*|escort|molest\w*",
        (
            "Anything without full consent is abuse, and it does lasting harm.",
            "It could hurt or exploit another person, which I won't be part of.",
            "This could be a serious crime with a victim.",
        ),
        (
            "If you have questions about sexual health, a doctor or a clinic can answer them.",
            "If someone has been hurt, a support line can help in confidence.",
            "If these thoughts trouble you, a therapist can help without judging you.",
        ),
    ),
    Topic(
        r"black people|blacks|jews?|jewish|muslims?|mexicans?|asians?|gays?|women|immigrants?|race"
        r"|racist|racial|slurs?|n word|hate|trans\w*|fat|ugly|retard\w*|stupid|insult\w*|bully\w*"
        r"|b[i*]tch\w*|white people",
        (
            "Running people down for who they are is unfair and hurts them.",
            "No group of people is all alike, and words like these do harm.",
            "Everyone deserves to be treated with respect.",
        ),
        (
            "If there is a conflict with someone, I can help you say it in a fair way.",
            "Getting to know people one by one is the best answer to such ideas.",
            "I can tell you about the history and the culture of that group instead.",
        ),
    ),
    Topic(
        r"illegal\w*|without getting caught|get away with|trespass\w*|vandal\w*|arson|burn\w*|fire"
        r"|destroy\w*|prank\w*|lie|lying|trick|torment\w*|animal abuse|evade|smuggl\w*",
        (
            "It could do real damage, and others would have to pay for it.",
            "This is likely to break the law and to harm someone.",
            "It may seem harmless, but it could go badly wrong for everyone.",
        ),
        (
            "If someone has wronged you, a complaint or a talk will get you further.",
            "If you are looking for fun, there are ways that leave nobody worse off.",
            "If you are not sure what the law allows, a lawyer can tell you.",
        ),
    ),
)
GRADES = ((2, 0, 0.6), (1, 0, 0.2), (2, 1, 0.2))  # better, worse, share: 2 in full, 1 bare, 0 goes along
_FOUND = [(re.compile(rf"\b(?:{topic.words})\b", re.IGNORECASE), topic) for topic in TOPICS]


def topic_of(query: str) -> Topic | None:
    """The harm that a query names, if any."""
    return next((topic for pattern, topic in _FOUND if pattern.search(query)), None)


def refusal(rng: random.Random, topic: Topic) -> str:
    """A refusal with one or two reasons and what could be done instead."""
    parts = [rng.choice(DECLINE), *rng.sample(topic.reasons, rng.choice((1, 1, 2)))]
    parts += rng.sample(topic.instead, rng.choice((1, 1, 2)))
    return " ".join([*parts, rng.choice(MORE)] if rng.random() < 0.5 else parts)


def graded_pairs(pairs: Iterable[Example], seed: int) -> Iterator[Example]:
    """Yield one more pair of each safety query that names a harm."""
    for pair in pairs:
        topic, rng = topic_of(pair.query), random.Random(seed_of(seed, "refusal", pair.id))
        helps = [r for r in pair.responses if not measure(pair.query, r, None)["refusal"]]
        if topic and helps:
            texts = {0: rng.choice(helps), 1: rng.choice(DECLINE), 2: refusal(rng, topic)}
            [(better, worse, _)] = rng.choices(GRADES, [share for _, _, share in GRADES])
            yield _pair(f"{pair.id}/graded", pair.messages, texts[better], texts[worse], "safety")


def answered_pairs(queries: Iterable[tuple[str, str, str]], seed: int) -> Iterator[Example]:
    """Yield pairs of a harmless query's answer and a refusal.

    Args:
        queries: Name, query and its best answer.
        seed: Of the refusals.
    """
    for name, query, answer in queries:
        rng = random.Random(seed_of(seed, "answered", name))
        if topic_of(query) is None:
            declined = rng.choice(DECLINE) if rng.random() < 0.4 else refusal(rng, rng.choice(TOPICS))
            yield _pair(f"{name}/answered", (Message("user", query),), answer, declined, "chat")


def _pair(name: str, turns: tuple[Message, ...], better: str, worse: str, domain: str) -> Example:
    return Example(name, turns, (better, worse), labels=(1.0, 0.0), meta={"domain": domain})
