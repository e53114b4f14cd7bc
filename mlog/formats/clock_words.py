"""What programs write around dates and times in people's languages: halves of the day, month names.

Exports carry no name of their language, so each word counts in whatever file it stands. Names that
mean two months in two languages (Croatian and Polish "listopada") are those of the larger one,
and the smaller language is left out whole, so that its dates are reported, not misread.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MARKS", "half_of_day", "month", "without_marks"]

MARKS: Final = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
"""Characters without a width that only say in which direction text runs, and the byte-order mark."""

_REMOVED: Final = dict.fromkeys(map(ord, MARKS))
_PLAIN: Final = _REMOVED | dict.fromkeys(map(ord, " \t\u00a0\u2009\u202f.'\"״׳“”„’"))

_MORNING: Final = frozenset(
    (
        *("am", "a", "vm", "fm", "ap", "rn", "pd", "sa", "pg", "öö", "de", "πμ", "προμεσημβριας"),
        *("дп", "прп", "прпл", "преподне", "пробяд", "пробяда", "проб", "dop", "dopoledne", "dopo"),
        *("ص", "صباحا", "صباحًا", "قظ", "قبلازظهر", "לפנהצ", "בבוקר", "पूर्वाह्न", "मपू", "सकाळी", "सुबह"),
        *("ਪੂਦੁ", "முற்பகல்", "పూర్వాహ్నం", "ಪೂರ್ವಾಹ್ನ", "ก่อนเที่ยง", "ព្រឹក", "오전", "午前", "上午"),
        *("凌晨", "清晨", "早上", "ጥዋት", "priešpiet", "priekšp", "priekšpusdienā", "paradite", "prijepodne"),
    )
)
_AFTERNOON: Final = frozenset(
    (
        *("pm", "p", "nm", "em", "ip", "in", "md", "ch", "ptg", "ös", "du", "μμ", "μεταμεσημβριας"),
        *("пп", "поп", "попл", "попладне", "слоб", "слобяд", "следобед", "odp", "odpoledne", "pop"),
        *("م", "مساء", "مساءً", "بظ", "بعدازظهر", "אחהצ", "בערב", "अपराह्न", "मउ", "दुपारी", "शाम"),
        *("ਬਾਦੁ", "பிற்பகல்", "అపరాహ్నం", "ಅಪರಾಹ್ನ", "หลังเที่ยง", "ល្ងាច", "오후", "午後", "下午"),
        *("中午", "晚上", "傍晚", "夜晚", "ከሰዓት", "popiet", "pēcp", "pēcpusdienā", "pasdite", "poslijepodne"),
    )
)
_NEITHER: Final = frozenset(
    (
        *("", "uhr", "h", "hs", "hrs", "kl", "klo", "г", "ч", "u", "um", "à", "às", "as", "alas", "alle"),
        *("alleore", "at", "в", "о", "om", "στις", "la", "ob", "lúc", "pukul", "saat", "jam"),
    )
)

_MONTHS: Final = (
    (
        "january jan januar januari janvier janv enero ene gennaio gen janeiro januara stycznia sty "
        "ledna led января янв січня січ ocak oca tammikuuta januára januarie ian ianuarie "
        "ιανουαρίου ιαν јануар יינואר ינואר يناير janvāris sausio јануара มกราคม जनवरी"
    ),
    (
        "february feb februar februari février févr fevrier febrero febbraio fevereiro fev lutego "
        "lut února úno февраля фев лютого лют şubat şub helmikuuta februára februarie φεβρουαρίου "
        "φεβ фебруар פברואר فبراير vasario กุมภาพันธ์ फ़रवरी"
    ),
    (
        "march mar märz mär mrz mars marzo março maart mrt marca březen března bře марта мар "
        "березня бер mart maaliskuuta martie μαρτίου március מרץ مارس kovo มีนาคม मार्च"
    ),
    (
        "april apr avril avr abril abr aprile kwietnia kwi dubna dub апреля апр квітня кві nisan "
        "nis huhtikuuta apríla aprilie απριλίου απρ április אפריל أبريل balandžio เมษายน अप्रैल"
    ),
    (
        "may mai mayo maggio mag maio mei maj maja května kvě мая май травня тра mayıs toukokuuta "
        "mája μαΐου május מאי مايو gegužės พฤษภาคม मई"
    ),
    (
        "june jun juni juin junio giugno giu junho czerwca cze června чер июня июн червня haziran "
        "haz kesäkuuta júna iunie ιουνίου ιουν június יוני يونيو birželio มิถุนายน जून"
    ),
    (
        "july jul juli juillet juil julio luglio lug julho lipca lip července июля июл липня лип "
        "temmuz tem heinäkuuta júla iulie ιουλίου ιουλ július יולי يوليو liepos กรกฎาคม जुलाई"
    ),
    (
        "august aug août aout agosto ago augustus sierpnia sie srpna srp августа авг серпня сер "
        "ağustos ağu elokuuta augusta αυγούστου αυγ augusztus אוגוסט أغسطس rugpjūčio สิงหาคม अगस्त"
    ),
    (
        "september sep sept septembre septiembre settembre set setembro września wrz září zář "
        "сентября сен вересня вер eylül eyl syyskuuta septembra septembrie σεπτεμβρίου σεπ "
        "szeptember ספטמבר سبتمبر rugsėjo กันยายน सितंबर"
    ),
    (
        "october oct oktober okt octobre octubre ottobre ott outubro out października paź října říj "
        "октября окт жовтня жов ekim eki lokakuuta októbra octombrie οκτωβρίου οκτ október אוקטובר "
        "أكتوبر spalio ตุลาคม अक्टूबर"
    ),
    (
        "november nov novembre noviembre novembro listopadu listopada lis ноября ноя листопада лист "
        "kasım kas marraskuuta novembra noiembrie νοεμβρίου νοε נובמבר نوفمبر lapkričio พฤศจิกายน "
        "नवंबर"
    ),
    (
        "december dec dezember dez décembre déc decembre diciembre dic dicembre dezembro desember "
        "des grudnia gru prosince pro декабря дек грудня гру aralık ara joulukuuta decembra "
        "decembrie δεκεμβρίου δεκ דצמבר ديسمبر gruodžio ธันวาคม दिसंबर"
    ),
)
_MONTH_OF: Final[dict[str, int]] = {}
for _number, _words in enumerate(_MONTHS, start=1):
    for _word in _words.split():
        _MONTH_OF.setdefault(_word, _number)


def without_marks(text: str) -> str:
    """Text without direction marks."""
    return text.translate(_REMOVED)


def half_of_day(word: str) -> int | None:
    """0 for a.m., 12 for p.m., -1 where the word says neither ("Uhr"), None for an unknown word."""
    plain = word.casefold().translate(_PLAIN)
    if plain in _NEITHER:
        return -1
    if plain in _MORNING:
        return 0
    if plain in _AFTERNOON:
        return 12
    return None


def month(word: str) -> int:
    """1 to 12 for the name of a month or its usual short form, else 0."""
    return _MONTH_OF.get(word.casefold().strip("."), 0)
