"""The mount table, whatever the names of mounts hold."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from vdscheck.linux import mounts

ESCAPED = " \t\n#,=\\"


@given(st.text(alphabet=f"{ESCAPED}ab0134", max_size=20))
@example("\\040")
@example("\\\\134040")
def test_a_name_comes_back_as_the_kernel_was_given_it(name: str) -> None:
    written = "".join(f"\\{ord(each):03o}" if each in ESCAPED else each for each in name)
    assert mounts._plain(written) == name


@given(st.text(alphabet="\\01234567 ab", max_size=24))
def test_what_no_kernel_writes_is_read_as_octal_or_left(text: str) -> None:
    codes = "|".join(f"{ord(each):03o}" for each in ESCAPED)
    plain = re.sub(rf"\\({codes})", lambda found: chr(int(found[1], 8)), text)
    assert mounts._plain(text) == plain


def test_a_comma_in_an_option_is_part_of_it() -> None:
    line = r"1 2 0:30 / / rw - overlay overlay rw,lowerdir=/a\054b\075c,upperdir=/u"
    assert mounts.parsed(line)[0].details == ("rw", "lowerdir=/a,b=c", "upperdir=/u")
