"""Lines of the user's program are told from those of libraries and of the engine."""

import random
from pathlib import Path

import numpy
import pyro
import torch

import credo
from credo.inference.inputs import places
from credo.inference.inputs.places import Place, calling_place, is_the_users_file


def test_files_of_libraries_and_of_the_engine_are_not_the_users():
    for module in (torch, pyro, numpy, random, places):
        assert not is_the_users_file(module.__file__)
    assert is_the_users_file(__file__)
    pair = credo.load("coin_toss")
    assert is_the_users_file(pair.model.__code__.co_filename)  # the pairs are programs like the user's


def test_the_calling_line_is_the_innermost_of_the_users():
    here = [calling_place()]
    assert Path(here[0].file).name == "test_places.py" and "here = [calling_place()]" in str(here[0])
    one, two = calling_place(), calling_place()
    assert one.line == two.line and one != two  # two calls on one line


def test_a_long_line_is_cut():
    assert len(str(Place(__file__, 1, 0))) < 140
    assert str(Place("/nowhere/model.py", 7, 0)) == "model.py:7"
