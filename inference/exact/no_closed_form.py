"""The error of a model whose posterior has no closed form."""


class NoClosedForm(ValueError):
    """No closed form was found: which site, which family was tried, and by how many nats it failed.

    A closed form is proven or refused, never approximated; `credo.reference` samples where there is none.
    """
