"""Errors that Pyro raises while a program runs, in words that name the site and the remedy."""

import re

from ..inputs.places import Place, is_the_users_file

_NAMED_TWICE = re.compile(r"Multiple \w+ sites named '(?P<site>.+?)'")
_PLATE = re.compile(
    r"Shape mismatch inside plate\('(?P<plate>.+?)'\) at site (?P<site>.+?) dim (?P<dim>-?\d+), "
    r"(?P<size>\d+) vs (?P<rows>\d+)"
)
_ARGUMENT = re.compile(
    r"Expected parameter (?P<argument>\w+) .*of distribution (?P<kind>\w+)\(.* to satisfy the constraint "
    r"(?P<constraint>.+?), but found invalid values:\s*(?P<value>.+?)(\n\w|$)",
    re.DOTALL,
)
_NO_LATENTS = re.compile(r"(?P<guide>\w+) found no latent variables")
_DISCRETE = re.compile(r"Continuous inference cannot handle discrete sample site '(?P<site>.+?)'")
_CHOLESKY = re.compile(r"linalg\.cholesky|not positive-definite")
_SITE = re.compile(r"^\s*(\S+) dist ", re.MULTILINE)  # in Pyro's table of shapes
LONGEST = 80  # characters of a value in a message
_DIMS = re.compile(r"at plates \"(?P<one>.+?)\" and \"(?P<two>.+?)\", collide at dim=(?P<dim>-?\d+)")


def _line(error: BaseException) -> str:
    """Where in the user's program the error arose: ", at FILE:LINE"; empty if it did not."""
    places, where = [], error.__traceback__
    while where is not None:
        if is_the_users_file(where.tb_frame.f_code.co_filename):
            places.append(Place(where.tb_frame.f_code.co_filename, where.tb_lineno, 0))
        where = where.tb_next
    return f", at {places[-1]}" if places else ""


def _running(what: str, error: BaseException) -> str:
    """The program that failed: an autoguide runs the model to begin with."""
    where = error.__traceback__
    while where is not None:
        if where.tb_frame.f_code.co_name == "_setup_prototype":
            return "model, at the starting values of its autoguide (init_loc_fn=init_to_median sets others),"
        where = where.tb_next
    return what


def explained(what: str, error: Exception) -> ValueError | None:
    """The error in credo's words, if it is one that Pyro raises for a known mistake. what: "model" or "guide"."""
    message = str(error)
    if found := _NAMED_TWICE.search(message):
        return ValueError(
            f"the {what} has two sites named {found['site']!r}; give each its own name, f'{found['site']}_{{i}}' in a "
            f"loop, or write one site in a pyro.plate"
        )
    if found := _PLATE.search(message):
        return ValueError(
            f"site {found['site']!r} (in the {what}): its distribution has {found['rows']} rows in dim {found['dim']}, "
            f"where plate {found['plate']!r} has {found['size']}; give the plate the number of rows, or make that "
            f"dimension part of the event with .to_event(1)"
        )
    if found := _NO_LATENTS.search(message):
        return ValueError(
            f"the model has no latent site for {found['guide']} to draw: each pyro.sample has obs=..., or draws a "
            f"finite latent, which is summed out. To train the parameters of the model alone, pass the guide "
            f"lambda *data: None; to learn a number, draw it with pyro.sample"
        )
    if found := _ARGUMENT.search(message):
        value = " ".join(found["value"].split())
        if len(value) > LONGEST:  # of a tensor its first entries
            value = f"{value[:LONGEST].rpartition(',')[0] or value[:LONGEST]}, ..."
        return ValueError(
            f"the {_running(what, error)} builds a {found['kind']} whose {found['argument']} is {value}, wanted "
            f"{found['constraint']}{_line(error)}; give a parameter that it comes from a constraint, "
            f"pyro.param(..., constraint=constraints.positive), or draw it from a distribution with such values"
        )
    if found := _DISCRETE.search(message):
        site = found["site"]
        return ValueError(
            f"site {site!r} is discrete and cannot be summed out (infinitely many values, or units that are one event "
            f"or differ in their values), and an automatic guide draws continuous latents only; truncate it, "
            f"pyro.sample({site!r}, dist.Categorical(...)) up to a largest count, or write a guide that draws it"
        )
    if _CHOLESKY.search(message):
        drawn = ", ".join(map(repr, _SITE.findall(message)))
        return ValueError(
            f"the {_running(what, error)} asks for the Cholesky factor of a matrix that is not positive definite at "
            f"the values drawn{f' (sites until then: {drawn})' if drawn else ''}{_line(error)}; add jitter "
            f"to its diagonal, K + 1e-5 * torch.eye(n), build it from a factor, L @ L.T, or draw it from "
            f"dist.LKJCholesky and scales"
        )
    if "not on the bottom of the stack" in message:
        return ValueError(
            f"the {what} leaves one pyro.markov (or plate) while another one that was entered later is still open"
            f"{_line(error)}; two loops at once, zip(pyro.markov(...), pyro.markov(...)), share one: "
            f"for i in pyro.markov(range(n))"
        )
    if found := _DIMS.search(message):
        return ValueError(
            f"plates {found['one']!r} and {found['two']!r} of the {what} stand one inside the other, both at dim "
            f"{found['dim']}; give them different dims, dim=-1 and dim=-2"
        )
    return None
