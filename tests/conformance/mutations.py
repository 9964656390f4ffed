"""Files of the kit changed at random, in the form of refusals.json."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

from cases import KIT

# Parts of JSON text: white space, texts, numbers, words, and single characters.
_PARTS = re.compile(rb'\s+|"(?:[^"\\]|\\.)*"|[-0-9][0-9.eE+-]*|[a-z]+|.', re.DOTALL)
_WORDS = rb"""
0 -0 1 -1 2 3 4 5.0 4.0 1e0 4E0 05 +1 .5 5. 1e 0x10 0.5 1e+2 - 1e299 1e300 -1e300 1e400 1e-400
2147483647 2147483648 4294967296 9007199254740991 9007199254740992 9223372036854775808
NaN Infinity -Infinity true false null nul True undefined [] {} [[]] 'a' // , ,, : { } [ ] "
"" "0" "1" "00" "4" "-1" "1.0" "0x1" "9999999999999" "25/1" "30000/1001" "2/4" "0/1" "1/0" "1/"
"2147483648" "2147483647/2" "00000000001" "\/" "\x41" "\u00e" "\u+0e9" "\ud800" "\udc00\ud800" "\ud83d\ude00"
"\u0000" "\u001f" "\u007f" "\u0085" "\u00a0" "\u00ad" "\u200b" "\u2028" "\u202e" "\ufeff" "\ue000" "\u0378"
"U8" "U16" "U32" "I32" "I64" "F16" "F32" "BF16" "video" "latent" "indices" "padding" "pts" "log_variance"
"local" "global" "first call" "second call" "flush call" "float16" "int8" "surplus" "first=0" "a.weights" "2" "3"
"""
_ODD = [
    *_WORDS.split(),
    *(b"9" * n for n in (299, 301, 310, 5000)),
    *(b'"' + text + b'"' for text in (b" 1", b"1 ", b"\t", b"a\nb", b"\x7f", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80")),
    *(
        b'"' + text + b'"'
        for text in (b"\xc3\xa9", b"\xc2\xa0", b"\xe2\x80\xae", b"\xf4\x90\x80\x80", b"\xf3\xa0\x80\xa1")
    ),
    *(b'"' + text * n + b'"' for text in (b"x", b"\xf0\x9f\x98\x80") for n in (150, 151, 300, 301)),
    *(b'"' + text + b'"' for text in (b"N 3 T H W", b"N T H W", b"N C T/4 H/8 W/8", b"N 999999 99 H W", b"N 3 T  H W")),
    *(b'"' + b" ".join([b"65536"] * n) + b'"' for n in (1, 2, 4, 6)),
    *(
        b'"gop":"2",',
        b'"window":"4",',
        b'"length":"first=1 multiple=4",',
        b'"groups":"frames=13 latents=4 shared_frames=0 shared_latents=0 whole=0",',
        b'"groups":"frames=8 latents=2 shared_frames=1 shared_latents=1 whole=1",',
        b'"exact":"first=3 multiple=2",',
        b'"surplus":"1",',
        b'"sampled":"4294967295",',
        b'"normalized":"1",',
        b'"drop":"surplus",',
        b'"groups":null,',
        b'"flush":{"size":1,"keep":3},',
        b'"pixel_range":[0,1],',
        b'"latent_mean":[0,0,0,0],',
        b'"weights_files":[],',
        b'"receptive_field":1048576,',
        b'"time_base":"1/25",',
        b'"skip":"4",',
        b'"__proto__":1,',
        b'"a":1,"\\u0061":1,',
    ),
    b'"display":"nonsense",',
    b'"display":"aspect=1 matrix=1 primaries=1 transfer=1 range=limited",',
    b'"display":"aspect=1/00 matrix=1 primaries=1 transfer=1 range=full",',
    b'"display":"aspect=16/9 matrix=256 primaries=1 transfer=1 range=full",',
    *(
        b'"padding":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]},' % (n, at, at + n)
        for n in (0, 4)
        for at in (0, 288)
    ),
    *(b"[" * n + b"]" * n for n in (59, 60, 61, 62, 63, 64, 65, 101, 5000)),
    *(b'{"a":' * n + b"1" + b"}" * n for n in (62, 63, 64)),
    *(b"/* */", b"//\n", b"\xef\xbb\xbf", b"\xc2\xa0", b"\x0b", b"\x0c", b"\0", b" "),
]
JSON_FILES = {
    "manifest.json": sorted(str(path.relative_to(KIT)) for path in KIT.glob("*/manifest.json")),
    ".tokens.safetensors": sorted(str(path.relative_to(KIT)) for path in KIT.rglob("*.tokens.safetensors")),
}


def random_edits(chance: random.Random, file: str) -> dict[str, Any]:
    """A case without name and verdict: up to three edits of a manifest or of the header of a token file."""
    raw = (KIT / file).read_bytes()
    header = file.endswith(".safetensors")
    content = raw[8 : 8 + int.from_bytes(raw[:8], "little")] if header else raw
    edits = []
    if header and chance.random() < 0.1:
        at = chance.choice([chance.randrange(9), chance.randrange(len(raw))])
        return {
            "file": file,
            "edits": [{"at": at, "delete": chance.randrange(5), "hex": chance.randbytes(chance.randrange(5)).hex()}],
        }
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        # Near one place; that its first part may be half of one does no harm.
        start = chance.randrange(len(content.rstrip()))
        near = content.rstrip()[start : start + 200]
        parts = list(_PARTS.finditer(near))
        numbers = list(re.finditer(rb"[0-9]{1,18}", near))
        found, other = chance.choice(parts), chance.choice(parts)
        action = chance.randrange(7)
        if action == 6 and numbers:  # a number a little off, also in a text
            found = chance.choice(numbers)
        at, size = start + found.start(), len(found[0])
        if action == 0:
            new = chance.choice(_ODD)
        elif action == 1:
            new = other[0]
        elif action == 2:
            new = b""
        elif action == 3:  # insert
            size, new = 0, chance.choice([chance.choice(_ODD), other[0]])
        elif action == 4:  # a member once more, or somewhere else
            members = list(re.finditer(rb'"[a-z_0-9]+":\s*(?:"[^"]*"|[-0-9.]+|null|true|false|\[[^][{}]*\])', near))
            new = chance.choice(members)[0] + b"," if members else b","
            at, size = content.find(b"{", chance.choice([0, start])) + 1, 0
        elif action == 5:  # inside a value
            at, size = at + chance.randrange(size), chance.randrange(3)
            new = chance.choice([chance.randbytes(chance.randrange(3)), chance.choice(_ODD).strip(b'"'), b"\\u0031"])
        else:
            number = int(found[0]) if found[0].isdigit() else 0
            new = str(max(0, number + chance.choice([-8, -4, -1, 1, 2, 4, 8, 100]))).encode()
        edits.append({"at": at, "delete": size, "hex": new.hex()})
        content = content[:at] + new + content[at + size :]
    return {"file": file, "edits": edits, **({"part": "header"} if header else {})}


def whole(file: str | Path, content: bytes) -> dict[str, Any]:
    """The same for a file that becomes something else altogether."""
    return {"file": str(file), "edits": [{"at": 0, "delete": 2**40, "hex": content.hex()}]}
