"""MNIST is drawn beside the digits only where it is at hand."""

import torch

import credo
from credo.report.mnist import mnist_pictures


def test_mnist_beside_the_digits_where_it_is_at_hand(monkeypatch, tmp_path, unchanged):
    split = credo.data.Split(torch.rand(60, 784), torch.zeros(60), torch.rand(20, 784), torch.zeros(20))
    monkeypatch.setattr(credo.data, "mnist", lambda: split)
    monkeypatch.delenv("CREDO_DATA", raising=False)
    assert mnist_pictures(credo.load("vae"), tmp_path) == []
    monkeypatch.setenv("CREDO_DATA", str(tmp_path))
    assert mnist_pictures(credo.load("vae"), tmp_path) == []  # the folder has no mnist.npz
    (tmp_path / "mnist.npz").touch()
    assert mnist_pictures(credo.load("coin_toss"), tmp_path) == []
    with unchanged():
        pictures = mnist_pictures(credo.load("vae"), tmp_path, steps=2)
    assert [picture.file for picture in pictures] == ["mnist_images.svg", "mnist_prior.svg"]
    assert all((tmp_path / picture.file).is_file() for picture in pictures)
    first = (split.x_test[:20].ge(0.5).float() - split.x.ge(0.5).float().mean(0)).square().mean(1).sqrt().mean()
    assert f"by the mean image {first:.2f}" in pictures[0].headline and pictures[0].headline.startswith("MNIST: Error")
    assert pictures[0].sentence.startswith("60 training images, 2 steps. Held-out images; ")
