"""Schedules that once failed, as short as `shrink` made them: each stays a test of what it found."""

from __future__ import annotations

import pytest

from .schedule import Action, Schedule
from .simulation import run_schedule

FOUND = {
    # The same entry reached both sides by other ways: the roots were not compared again.
    "an old receipt": Schedule(
        12,
        "network",
        3,
        {},
        (
            Action("meet", 0, 18, 143, 0),
            Action("say", 1, 282, 24, 30),
            Action("say", 2, 395, 76, 90_000),
            Action("say", 1, 274, 92, 300),
            Action("say", 0, 206, 979, 0),
            Action("say", 1, 603, 902, 300),
            Action("meet", 2, 545, 624, 30),
            Action("wait", 1, 803, 837, 30),
            Action("say", 0, 920, 500, 3),
            Action("meet", 1, 242, 146, 10_000),
            Action("say", 0, 813, 127, 0),
        ),
    ),
    # A device that had not been granted a log yet was asked for parts of it, and closed the session.
    "a request for a log that the other does not have": Schedule(
        24,
        "newcomers",
        5,
        {4: "newcomer"},
        (Action("say", 1, 898, 886, 30), Action("say", 0, 785, 604, 10_000)),
    ),
    # A log came to both by other sessions while they compared: nobody compared it.
    "a log that came by another session": Schedule(
        15, "newcomers", 4, {3: "newcomer"}, (Action("new log", 2, 480, 584, 0),)
    ),
    "a log that came between offer and answer": Schedule(
        26, "newcomers", 4, {3: "newcomer"}, (Action("new log", 2, 252, 34, 0),)
    ),
    # A text was asked for before the other had it, and never again.
    "a text that the other gets later": Schedule(
        29,
        "scopes",
        5,
        {4: "window", 3: "headers"},
        (
            Action("say", 4, 727, 735, 0),
            Action("meet", 4, 375, 581, 3),
            Action("say", 2, 559, 310, 300),
            Action("meet", 3, 705, 887, 300),
        ),
    ),
    # The clock was put back ten years, and with it what was due in five seconds.
    "a clock that was put back": Schedule(
        1000654,
        "network",
        2,
        {},
        (
            Action("stall", 0, 638, 494, 0),
            Action("import", 1, 835, 54, 2000),
            Action("say", 1, 594, 862, 30),
            Action("meet", 0, 922, 27, 300),
            Action("say", 0, 126, 479, 0),
            Action("wait", 0, 246, 67, 2000),
            Action("say", 1, 895, 504, 300),
            Action("skew", 0, 526, 494, 3),
        ),
    ),
    # Live push brought an entry from before a window, without its text, by a device that keeps none.
    "a text from before a window": Schedule(
        1000710,
        "scopes",
        4,
        {3: "window", 2: "headers"},
        (
            Action("meet", 3, 751, 205, 2000),
            Action("wait", 1, 517, 785, 10000),
            Action("meet", 2, 411, 99, 0),
            Action("import", 0, 224, 921, 30),
            Action("wait", 3, 318, 662, 90000),
            Action("meet", 2, 454, 379, 90000),
        ),
    ),
    # A window was made wider while a session was live.
    "a wider window": Schedule(
        107,
        "scopes",
        5,
        {4: "window", 3: "headers"},
        (
            Action("import", 2, 68, 64, 30),
            Action("meet", 4, 390, 254, 3),
            Action("fetch", 0, 104, 382, 10_000),
            Action("window", 4, 647, 420, 0),
        ),
    ),
    # A key entry came without its signature, and what vouched for it was sealed under its own epoch.
    "an epoch behind a key entry that nothing vouches for": Schedule(
        22_395_555,
        "newcomers",
        3,
        {2: "newcomer"},
        (Action("say", 1, 682, 166, 0), Action("admit", 0, 529, 108, 0), Action("say", 0, 899, 144, 300)),
    ),
    # What the liar said under a new epoch came to one who had not that epoch, with a bad signature.
    "a bad signature that the one who passes it on cannot check": Schedule(
        201,
        "everything",
        6,
        {5: "liar", 4: "window", 3: "newcomer"},
        (
            Action("lie", 0, 856, 63, 10_000),
            Action("admit", 5, 205, 989, 30),
            # An unknown kind, of 14.
            Action("forge", 5, 292, 609, 0),
        ),
    ),
    # A clock was set back by ten years: roots were compared again only when it showed the old time.
    "a clock that is set back while roots are about to be compared": Schedule(
        1_000_417,
        "network",
        4,
        {},
        (
            Action("meet", 2, 162, 834, 0),
            Action("meet", 2, 527, 293, 2_000),
            Action("say", 3, 806, 297, 0),
            Action("meet", 3, 448, 365, 300),
            Action("skew", 2, 191, 635, 10_000),
        ),
    ),
    # A peer that greets and never acknowledges was dialled again every five seconds, for ever.
    "a peer that never acknowledges": Schedule(
        8,
        "liars",
        5,
        {4: "liar"},
        (
            Action("lie", 1, 857, 535, 90_000),
            Action("say", 3, 215, 893, 30),
            Action("meet", 4, 939, 627, 90_000),
            Action("forge", 1, 318, 302, 300),
            Action("wait", 4, 869, 308, 30),
        ),
    ),
    # A device's record came together with the entry that admits it, and was judged without that, for ever.
    "a record that comes with its admission": Schedule(
        1_000_418,
        "newcomers",
        5,
        {4: "newcomer"},
        (
            Action("admit", 2, 667, 754, 90_000),
            Action("meet", 4, 10, 653, 0),
            Action("meet", 3, 228, 730, 90_000),
            Action("meet", 3, 130, 595, 300),
            Action("wait", 2, 774, 659, 2000),
        ),
    ),
    # Texts of entries that were known already came from one device, and the others never heard of them.
    "texts that come late": Schedule(
        240_468_560,
        "scopes",
        4,
        {3: "window", 2: "headers"},
        (
            Action("import", 3, 443, 771, 90_000),
            Action("meet", 3, 485, 28, 10_000),
            Action("meet", 0, 234, 85, 300),
            Action("window", 3, 264, 875, 3),
            Action("fetch", 0, 788, 391, 10_000),
            Action("fetch", 2, 628, 802, 90_000),
            Action("meet", 0, 568, 988, 90_000),
        ),
    ),
    # Signatures that a liar damaged lay unopened, and were counted as refused from who sent good ones.
    "a bad signature that lay here before": Schedule(
        1_000_586,
        "everything",
        5,
        {4: "liar", 3: "window", 2: "newcomer"},
        (
            Action("say", 1, 254, 912, 300),
            Action("kill amid", 4, 14, 982, 0),
            Action("beside", 0, 222, 802, 2000),
            Action("kill", 0, 830, 843, 0),
            Action("admit", 1, 272, 560, 30),
            Action("forge", 3, 455, 937, 90_000),
            Action("busy", 3, 187, 669, 90_000),
            Action("meet", 2, 778, 824, 300),
            Action("say", 1, 514, 582, 0),
            Action("beside", 4, 121, 332, 90_000),
            Action("say", 1, 175, 572, 0),
            Action("meet", 4, 401, 595, 0),
            Action("say", 1, 157, 833, 0),
            Action("boot", 3, 27, 243, 10_000),
            Action("kill", 0, 233, 714, 3),
            Action("meet", 4, 749, 517, 30),
            Action("boot", 4, 666, 746, 90_000),
            Action("admit", 3, 364, 537, 90_000),
            Action("meet", 0, 722, 859, 30),
            Action("lie", 3, 856, 926, 90_000),
            Action("meet", 4, 205, 499, 3),
            Action("import", 4, 887, 254, 3),
            Action("boot", 3, 345, 258, 30),
            Action("say", 2, 263, 437, 10_000),
            Action("new log", 1, 185, 647, 0),
        ),
    ),
    # A device was revoked elsewhere: its session with who heard of that by another session went on.
    "a session with a device that was revoked elsewhere": Schedule(
        9, "society", 6, {5: "spare"}, (Action("revoke", 0, 542, 536, 0),), (0, 0, 0, 1, 1, 1)
    ),
    # A log was compared with a contact who brings it, and then turned out to be one that it may not have.
    "a log that is compared and shared no more": Schedule(
        1006,
        "members",
        6,
        {5: "spare"},
        (
            Action("meet", 0, 81, 286, 2000),
            Action("begin", 1, 789, 658, 90_000),
            Action("meet", 0, 590, 496, 0),
            Action("meet", 3, 219, 873, 10_000),
            Action("meet", 3, 752, 163, 30),
            Action("meet", 5, 92, 552, 300),
            Action("meet", 1, 814, 621, 0),
            Action("wait", 5, 597, 444, 3),
        ),
        (0, 0, 0, 1, 1, 1),
    ),
    # Somebody wrote in a conversation whose secrets were here, and nothing else: it was never taken after.
    "a conversation of which nothing has come yet": Schedule(
        1002,
        "society",
        4,
        {},
        (
            Action("meet", 3, 527, 25, 10_000),
            Action("kill at", 2, 574, 630, 0),
            Action("begin", 2, 614, 110, 300),
            Action("expel", 3, 622, 577, 3),
            Action("say", 3, 157, 251, 0),
        ),
        (0, 1, 2, 3),
    ),
    # Who had heard of an epoch, and not yet why it left a device out, granted it to that device.
    "an epoch without a device that was revoked": Schedule(
        2010,
        "revocations",
        6,
        {5: "spare"},
        (Action("revoke", 1, 989, 118, 90_000),),
        (0, 0, 0, 1, 1, 0),
    ),
    "an epoch without a device that was revoked, and the process killed": Schedule(
        2003,
        "society",
        4,
        {3: "spare"},
        (
            Action("revoke", 0, 927, 991, 0),
            Action("kill", 0, 269, 122, 300),
            Action("say", 2, 793, 925, 2000),
        ),
        (0, 0, 1, 0),
    ),
    # A device edited what another one of its person had written behind its cut.
    "an edit of what does not count": Schedule(
        2029,
        "traitors",
        3,
        {0: "liar", 2: "clone"},
        (
            Action("import", 1, 409, 682, 90000),
            Action("meet", 0, 775, 699, 10000),
            Action("say", 1, 672, 319, 30),
            Action("begin", 1, 751, 781, 0),
            Action("revoke", 1, 707, 224, 2000),
            Action("begin", 1, 100, 602, 2000),
            Action("say", 2, 632, 877, 300),
            Action("say", 2, 547, 223, 0),
            Action("say", 0, 445, 269, 2000),
            Action("say", 1, 286, 844, 0),
            Action("say", 0, 814, 929, 10000),
            Action("say", 0, 891, 21, 90000),
            Action("meet", 2, 937, 631, 90000),
            Action("say", 1, 688, 373, 90000),
        ),
        (0, 0, 1),
    ),
    # A chunk was erased here before it was cut off, and there it came when it counted no more.
    "a chunk that was erased, and then counted no more": Schedule(
        2015,
        "society",
        5,
        {4: "spare"},
        (
            Action("say", 3, 805, 955, 10_000),
            Action("say", 0, 634, 370, 90_000),
            Action("say", 1, 892, 226, 300),
            Action("expel", 1, 946, 416, 0),
            Action("revoke", 3, 750, 107, 2000),
        ),
        (0, 1, 2, 3, 1),
    ),
    # What was written under an epoch whose key entry is behind a cut could not be opened by a new device.
    "an epoch that counts for nothing": Schedule(
        7003,
        "revocations",
        4,
        {3: "spare"},
        (
            Action("revoke", 0, 187, 621, 90_000),
            Action("import", 0, 731, 253, 90_000),
            Action("expel", 2, 457, 554, 10_000),
            Action("add", 2, 783, 183, 300),
        ),
        (0, 0, 1, 1),
    ),
    # A device was set back, and began another epoch of a number that it had given to a new device.
    "two epochs of one number, each known to one device": Schedule(
        8020,
        "society",
        5,
        {4: "spare"},
        (
            Action("part", 0, 497, 206, 2000),
            Action("say", 2, 674, 28, 0),
            Action("beside", 0, 298, 353, 10000),
            Action("promote", 0, 520, 30, 30),
            Action("kill at", 2, 777, 841, 3),
            Action("kill amid", 1, 152, 417, 10000),
            Action("revoke", 3, 832, 380, 0),
            Action("kill", 4, 69, 314, 10000),
            Action("kill", 3, 500, 862, 0),
            Action("backup", 0, 478, 727, 0),
            Action("revoke", 4, 965, 510, 0),
            Action("leave", 0, 738, 867, 300),
            Action("kill amid", 1, 764, 888, 30),
            Action("add", 0, 910, 143, 30),
            Action("backup", 2, 487, 305, 2000),
            Action("promote", 3, 853, 455, 90000),
            Action("fail at", 3, 383, 191, 300),
            Action("boot", 3, 57, 852, 30),
            Action("boot", 4, 548, 301, 10000),
            Action("import", 1, 583, 548, 3),
            Action("part", 0, 952, 24, 3),
            Action("backup", 2, 997, 281, 0),
            Action("expire", 1, 23, 204, 2000),
            Action("meet", 3, 491, 798, 300),
            Action("meet", 3, 974, 503, 3),
            Action("revoke", 0, 718, 370, 0),
            Action("say", 4, 107, 400, 0),
            Action("wait", 3, 900, 114, 10000),
            Action("meet", 4, 323, 240, 3),
            Action("rename", 2, 94, 763, 300),
        ),
        (0, 0, 1, 1, 0),
    ),
    # A log came to the follower while it answered an offer: it called it unknown, and took it for compared.
    "a log that comes while an offer is answered": Schedule(
        2031,
        "society",
        5,
        {},
        (
            Action("restore", 2, 939, 292, 90000),
            Action("beside", 4, 482, 199, 2000),
            Action("look", 1, 741, 495, 2000),
            Action("kill at", 0, 66, 596, 0),
            Action("skew", 0, 671, 752, 30),
            Action("meet", 1, 342, 219, 10000),
            Action("promote", 0, 660, 697, 0),
            Action("meet", 4, 207, 765, 30),
            Action("boot", 4, 242, 942, 2000),
            Action("begin", 0, 743, 579, 0),
            Action("begin", 4, 921, 729, 30),
            Action("boot", 2, 230, 961, 300),
            Action("boot", 0, 318, 199, 30),
        ),
        (0, 0, 0, 1, 1),
    ),
    "a log that comes while an offer is answered, and is shared by turns": Schedule(
        3010,
        "members",
        6,
        {5: "spare"},
        (
            Action("say", 3, 236, 781, 10000),
            Action("meet", 5, 373, 34, 90000),
            Action("say", 0, 251, 201, 90000),
            Action("add", 3, 840, 673, 0),
            Action("add", 0, 415, 574, 90000),
            Action("promote", 3, 270, 676, 90000),
            Action("say", 0, 458, 791, 2000),
            Action("meet", 0, 734, 506, 2000),
            Action("begin", 3, 200, 571, 300),
            Action("meet", 0, 430, 484, 0),
            Action("say", 5, 378, 344, 3),
            Action("meet", 5, 772, 474, 3),
            Action("wait", 0, 128, 38, 0),
            Action("wait", 0, 833, 189, 90000),
            Action("say", 3, 771, 419, 2000),
            Action("read", 1, 821, 881, 90000),
            Action("say", 3, 343, 500, 3),
            Action("say", 1, 553, 948, 90000),
            Action("say", 5, 461, 125, 300),
            Action("read", 0, 115, 692, 300),
            Action("meet", 5, 688, 433, 300),
            Action("say", 4, 323, 362, 0),
            Action("begin", 4, 156, 156, 0),
            Action("accept", 0, 641, 934, 3),
        ),
        (0, 0, 1, 1, 2, 0),
    ),
    # Who had the key entry, and not the revocation that its author knew, granted the epoch to the revoked.
    "an epoch whose key entry came before the revocation": Schedule(
        9002,
        "revocations",
        6,
        {5: "spare"},
        (
            Action("meet", 1, 120, 28, 3),
            Action("meet", 4, 186, 486, 0),
            Action("revoke", 2, 772, 590, 30),
            Action("meet", 4, 312, 529, 300),
        ),
        (0, 0, 0, 1, 1, 1),
    ),
    # A device that had just been granted a conversation, and had no entry of it, passed on all its epochs.
    "an epoch that no key entry here states": Schedule(
        9002,
        "revocations",
        6,
        {5: "spare"},
        (
            Action("revoke", 4, 332, 591, 10_000),
            Action("say", 3, 401, 841, 300),
            Action("add", 2, 960, 246, 90_000),
            Action("say", 0, 78, 740, 90_000),
            Action("import", 3, 571, 241, 2000),
        ),
        (0, 0, 0, 1, 1, 1),
    ),
    # The checkers did not know of it: so all that was written there seemed to be kept from everybody.
    "a conversation whose beginner is killed after its commit": Schedule(
        3000001,
        "society",
        3,
        {2: "spare"},
        (
            Action("kill at", 0, 254, 547, 90000),
            Action("accept", 2, 408, 433, 300),
            Action("say", 0, 412, 185, 90000),
            Action("accept", 1, 395, 283, 90000),
            Action("begin", 0, 26, 251, 300),
        ),
        (0, 1, 1),
    ),
    # Who removed a person, its word being void, heard later that a device of that person was revoked.
    "an epoch from before a revocation was heard of": Schedule(
        4100003,
        "revocations",
        5,
        {},
        (
            Action("revoke", 0, 772, 921, 2000),
            Action("meet", 4, 837, 978, 90_000),
            Action("revoke", 2, 767, 113, 2000),
            Action("expel", 1, 40, 840, 10_000),
        ),
        (0, 0, 1, 1, 2),
    ),
    # It was given the log alone, and later nothing more, since it had that.
    "a log whose epochs are withheld at first": Schedule(
        4200002,
        "members",
        4,
        {},
        (
            Action("say", 2, 320, 911, 0),
            Action("add", 3, 516, 462, 0),
            Action("begin", 1, 152, 55, 0),
            Action("say", 2, 116, 979, 300),
        ),
        (0, 0, 1, 1),
    ),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_failed_once_holds(what: str):
    run_schedule(FOUND[what])
