"""The graph of a tape does what the program does. Oracle: the program itself, on other numbers."""

import pytest
import torch

from credo.inference.capture.tape import ESCAPED, Tape

X = torch.tensor([1.0, 2.0, 3.0])


def taped(program, x, readable=(), changing=()):
    tape = Tape([x], readable, {id(t) for t in changing})
    with tape:
        found = program(x)
    tape.graph.output(tape.node_of(found))
    return tape, torch.fx.GraphModule({}, tape.graph)


def gradient(x):
    y = x.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad((y.exp() * y).sum(), y)
    return g


def in_parts(x):
    low, rest = x.split([1, 2])
    values, order = rest.sort(descending=True)
    return low + values * order


def in_place(x):
    y = torch.tensor(2.0)
    y.add_(1)
    out = torch.zeros(3)
    out[1:] = x[1:] * y
    return out


PROGRAMS = {
    "gradient": gradient,
    "vmap": lambda x: torch.vmap(lambda a: a * a.sin() + 1)(x),
    "parts": in_parts,
    "in place": in_place,
    "a small constant is read": lambda x: x * float(torch.tensor(2.0) * 3),
    "a constant that nothing else has": lambda x: x + torch.tensor([1.0, 2.0, 3.0]),
    "lists": lambda x: torch.cat([x, torch.stack([x, x]).sum(0)]),
    "noise": lambda x: x + torch.randn(3) + torch.empty(3).normal_(),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_graph_does_what_the_program_does(name):
    program = PROGRAMS[name]
    tape, module = taped(program, X.clone())
    assert not tape.found
    for x in (X, X + 0.5):
        torch.manual_seed(1)
        wanted = program(x)
        torch.manual_seed(1)
        assert torch.equal(module(x, *tape.constants.values()), wanted)


def read_after_a_write(x):
    c = torch.tensor(2.0)
    view = c.view(1)
    c.add_(x.sum())
    return x * view.item()


ESCAPES = {
    "item": lambda x: x * x.sum().item(),
    "branch": lambda x: x if x.sum() > 0 else -x,
    "noise": lambda x: x * torch.randn(()).item(),
    "mixed": lambda x: x * (torch.tensor(2.0) * x.sum()).item(),
    "a constant that the input was written into": read_after_a_write,
    "equal": lambda x: x * float(torch.equal(x, x + 1)),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_a_value_that_changes_with_the_step_does_not_get_into_python(name):
    with pytest.raises(RuntimeError, match=ESCAPED):
        taped(ESCAPES[name], X.clone())


def test_a_value_of_the_data_is_read_and_told():
    tape, _ = taped(lambda x: x * x.sum().item(), X.clone(), readable=[0])
    assert [value for _, value in tape.found] == [6.0]


def test_a_buffer_that_the_program_may_change_is_not_read():
    buffer, setting = torch.tensor(3.0), torch.tensor(3.0)
    taped(lambda x: x * setting.item(), X.clone(), changing=[buffer])
    with pytest.raises(RuntimeError, match=ESCAPED):
        taped(lambda x: x * buffer + x * buffer.item(), X.clone(), changing=[buffer])


def test_a_tensor_outside_is_written_into_once():
    """The value of `torch.tensor(...)` is worked out beside the program: this must not run the write again."""
    total = torch.zeros(3)
    taped(lambda x: total.add_(torch.tensor(1.0)) + x, X.clone())
    assert torch.equal(total, torch.ones(3))


def test_arguments_that_cannot_be_written_down_are_refused():
    with pytest.raises(TypeError, match="an operator gets an argument of type Generator"):
        taped(lambda x: x + torch.randn(3, generator=torch.Generator()), X.clone())
    with pytest.raises(TypeError, match="sparse"):
        sparse = torch.eye(3).to_sparse()
        taped(lambda x: torch.sparse.mm(sparse, x[:, None]), X.clone())


def test_tensors_that_are_gone_are_not_taken_for_new_ones_at_their_place_in_memory():
    def program(x):
        for _ in range(200):
            x = x + torch.tensor([1.0, 2.0, 3.0])  # each of these tensors dies at once
        return x

    tape, module = taped(program, X.clone())
    assert len(tape.constants) == 200
    assert torch.equal(module(X, *tape.constants.values()), program(X))
