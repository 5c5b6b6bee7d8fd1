"""The same phrases in English, German, Finnish and Lithuanian, from three libraries.

babel writes CLDR's dates, amounts, quantities, lists and names; num2words writes numbers
in words; pycountry has the names in ISO standards. Left out, because a library lacks or
garbles them in Finnish or Lithuanian: fractions in words, compact numbers, compound
units, whole amounts of currencies with cents, and ordinals and years in Lithuanian words.
"""

from collections.abc import Callable
import datetime
import functools
import gettext
import random
import unicodedata

import babel
from babel import dates, lists, localedata, numbers, units
import num2words
import pycountry

NAMES = "name"  # the kind of phrase that has no parts
_LANGUAGES_WITH_YEARS = ("en", "de", "fi")
_CURRENCIES_IN_WORDS = ("EUR", "USD", "GBP", "SEK", "PLN", "RUB", "LTL")
_UNITS = (
    "angle-degree area-hectare area-square-kilometer "
    "area-square-meter digital-gigabyte digital-kilobyte digital-megabyte duration-day "
    "duration-hour duration-minute duration-month duration-second duration-week "
    "duration-year electric-ampere electric-volt energy-joule energy-kilocalorie "
    "energy-kilowatt-hour frequency-gigahertz frequency-hertz length-centimeter "
    "length-foot length-inch length-kilometer length-meter length-mile length-millimeter "
    "mass-gram mass-kilogram mass-milligram mass-ounce mass-pound mass-tonne "
    "power-horsepower power-kilowatt power-watt speed-kilometer-per-hour "
    "speed-meter-per-second temperature-celsius temperature-fahrenheit "
    "volume-cubic-meter volume-liter volume-milliliter"
).split()
_ISO_CATALOGUES = (
    "iso3166-1 iso3166-2 iso3166-3 iso639-3 iso639-5 iso4217 iso15924"
).split()

# A phrase is a function of the language, which gives None where there is no such phrase.
Phrase = Callable[[str], str | None]


def _below(rng: random.Random, power: int) -> int:
    """An integer below 10^n, for n from 1 to power, each as likely."""
    return rng.randrange(10 ** rng.randint(1, power))


def _date(rng: random.Random) -> datetime.date:
    return datetime.date(1900, 1, 1) + datetime.timedelta(days=rng.randrange(73_000))


@functools.cache
def _currencies() -> list[str]:
    return sorted(currency.alpha_3 for currency in pycountry.currencies)


@functools.cache
def _locales() -> list[str]:
    """Languages of a country or in a script: a name with two parts."""
    return sorted(name for name in localedata.locale_identifiers() if "_" in name)


@functools.cache
def _table(language: str, name: str) -> dict[str, str]:
    """CLDR's names of territories or languages, without regional variants."""
    table = getattr(babel.Locale(language), name)
    return {key: table[key] for key in sorted(table) if key.isalpha()}


def _in_words(number: int | str, **options) -> Phrase:
    def phrase(language):
        try:
            return num2words.num2words(number, lang=language, **options)
        except NotImplementedError:
            return None

    return phrase


def _number(rng):
    return _in_words(_below(rng, 5))


def _ordinal(rng):
    return _in_words(1 + _below(rng, 4), to="ordinal")


def _year(rng):
    words = _in_words(rng.randint(1100, 2099), to="year")
    return lambda language: words(language) if language in _LANGUAGES_WITH_YEARS else None


def _amount_in_words(rng):
    # Euro, dollar and pound are in all languages.
    currency = rng.choice(_CURRENCIES_IN_WORDS[: rng.choice((3, 3, None))])
    amount = f"{1 + _below(rng, 4)}.{rng.randint(1, 99):02}"
    return _in_words(amount, to="currency", currency=currency)


def _amount(rng):
    currency = rng.choice(_currencies())
    amount = (100 * _below(rng, 5) + rng.randint(1, 99)) / 100
    if numbers.get_currency_precision(currency) == 0:
        amount = round(amount) + 2

    def phrase(language):
        if currency not in babel.Locale(language).currencies:
            return None
        return numbers.format_currency(
            amount, currency, locale=language, format_type="name"
        )

    return phrase


def _quantity(rng):
    unit = rng.choice(_UNITS)
    value = (10 * _below(rng, 4) + rng.choice((0, rng.randint(1, 9)))) / 10
    value = int(value) if value.is_integer() else value
    return lambda language: units.format_unit(value, unit, "long", locale=language)


def _calendar_date(rng):
    date = _date(rng)
    style = rng.choice(("full", "full", "long"))
    return lambda language: dates.format_date(date, style, locale=language)


def _time(rng):
    time = datetime.datetime.combine(_date(rng), datetime.time())
    time += datetime.timedelta(seconds=rng.randrange(86_400))
    return lambda language: dates.format_datetime(time, "medium", locale=language)


def _interval(rng):
    first = _date(rng)
    last = first + datetime.timedelta(days=rng.randint(1, 300))
    return lambda language: dates.format_interval(first, last, "yMMMMd", locale=language)


def _timespan(rng):
    unit = rng.choice(("minutes", "hours", "days", "weeks"))
    span = datetime.timedelta(**{unit: rng.choice((-1, 1)) * rng.randint(1, 60)})
    direction = rng.random() < 0.8
    return lambda language: dates.format_timedelta(
        span, add_direction=direction, locale=language
    )


def _list(rng):
    names = rng.choice(("territories", "languages"))
    chosen = rng.sample(list(_table("en", names)), rng.randint(2, 4))
    style = rng.choice(("standard", "or"))

    def phrase(language):
        table = _table(language, names)
        if not all(key in table for key in chosen):
            return None
        return lists.format_list([table[k] for k in chosen], style, locale=language)

    return phrase


def _locale(rng):
    identifier = rng.choice(_locales())
    return lambda language: babel.Locale.parse(identifier).get_display_name(language)


# kind -> (maker of a phrase, how many are made; some come out several times)
_KINDS = {
    "number": (_number, 7000),
    "ordinal": (_ordinal, 3000),
    "year": (_year, 2000),
    "amount in words": (_amount_in_words, 7000),
    "amount": (_amount, 6000),
    "quantity": (_quantity, 7000),
    "date": (_calendar_date, 9000),
    "time": (_time, 4000),
    "interval": (_interval, 4000),
    "timespan": (_timespan, 1000),
    "list": (_list, 6000),
    "locale": (_locale, 1500),
}


def _clean(text: str | None) -> str | None:
    """Plain spaces and no compatibility characters, as in a SentencePiece model."""
    return text and " ".join(unicodedata.normalize("NFKC", text).split())


def _cldr_names(language: str) -> dict[tuple[str, str], str]:
    locale = babel.Locale(language)
    return {
        (table, key): name
        for table in ("territories", "languages", "currencies", "scripts", "variants")
        for key, name in getattr(locale, table).items()
    }


def _names(language: str) -> list[tuple[str, str]]:
    """(English, other language), from CLDR and then from ISO standards."""
    english, other = _cldr_names("en"), _cldr_names(language)
    pairs = [(english[key], other[key]) for key in sorted(english) if key in other]
    for catalogue in _ISO_CATALOGUES:
        translation = gettext.translation(
            catalogue, pycountry.LOCALES_DIR, [language], fallback=True
        )
        known = getattr(translation, "_catalog", {})  # not all are in all languages
        pairs += sorted((a, b) for a, b in known.items() if a and isinstance(a, str))
    return pairs


@functools.cache
def _composed(language: str) -> list[tuple[str, str | None]]:
    """(kind, phrase), the same ones in the same order for each language."""
    made = []
    for kind, (make, count) in _KINDS.items():
        rng = random.Random(kind)
        made += [(kind, _clean(make(rng)(language))) for _ in range(count)]
    return made


def pairs(language: str) -> dict[tuple[str, str], str]:
    """(English, other language) -> kind.

    Of several translations of a phrase the first is kept, in either direction. Phrases
    that are the same in both languages are left out.
    """
    candidates = [
        (kind, english, other)
        for (kind, english), (_, other) in zip(
            _composed("en"), _composed(language), strict=True
        )
    ]
    candidates += [(NAMES, _clean(a), _clean(b)) for a, b in _names(language)]
    kept: dict[tuple[str, str], str] = {}
    seen: tuple[set[str], set[str]] = (set(), set())
    for kind, english, other in candidates:
        if not english or not other or english == other:
            continue
        if english in seen[0] or other in seen[1]:
            continue
        seen[0].add(english)
        seen[1].add(other)
        kept[english, other] = kind
    return kept
