"""Random files for the command line: tables that are none, and pairs with an error in them."""

from typing import Any

from hypothesis import strategies as st

PAIR = """
import pyro, torch, pyro.distributions as dist

def model(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

def guide(x):
    m = pyro.param("m", torch.tensor(0.0))
    pyro.sample("loc", dist.Normal(m, 1.0))
"""
CELLS = st.one_of(
    st.floats().map(str),
    st.integers(-9, 9).map(str),
    st.text(max_size=3),
    st.sampled_from(["", "NA", "True", "1,5", "a", "b", "a", "b"]),
)


@st.composite
def csv(draw: Any) -> bytes:
    """A file that may be a table: ragged rows, any cells, or bytes that are no text."""
    if draw(st.booleans()):
        return draw(st.one_of(st.binary(max_size=60), st.just(b""), st.just(b"PK\x03\x04\x00\x80"), st.just(b"x\n")))
    mark = draw(st.sampled_from([",", ",", ";", "\t"]))
    lines = draw(st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=4))
    head = draw(st.sampled_from(["x", "x,y", "X", "y", "x,x", ",x", "x,x.1"]))
    return "\n".join([head, *(mark.join(line) for line in lines)]).encode(errors="replace")


@st.composite
def pair_files(draw: Any) -> bytes:
    """The file of a pair, perhaps cut, with a line too many, or with bytes that are no Python."""
    text = PAIR.encode()
    how = draw(st.sampled_from(["whole", "cut", "line", "bytes"]))
    if how == "cut":
        return text[: draw(st.integers(0, len(text)))]
    if how == "line":
        wrong = draw(st.sampled_from(["1 / 0", "import nosuch", "raise SystemExit", "x = ", "{}['a']", "model = 3"]))
        return text + wrong.encode() + b"\n"
    return draw(st.binary(max_size=40)) if how == "bytes" else text
