"""The models and guides of Pyro's tutorials that train networks, small: VAE, semi-supervised VAE, DMM.

Each function makes a pair with its data anew: (model, guide, data), as in `tests.cases.tutorials.small`.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

PIXELS, CLASSES, HIDDEN, Z = 12, 3, 8, 2


def images(n):
    """(x, y): n pictures of 0 and 1, whose class is where they are bright; the classes as one-hot rows."""
    noise = torch.Generator().manual_seed(0)
    y = torch.arange(n) % CLASSES
    bright = (torch.arange(PIXELS) // (PIXELS // CLASSES) == y[:, None]).float()
    return torch.bernoulli(0.1 + 0.8 * bright, generator=noise), torch.eye(CLASSES)[y]


# The variational auto-encoder.


class Encoder(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.fc1 = nn.Linear(inputs, HIDDEN)
        self.fc21, self.fc22 = nn.Linear(HIDDEN, Z), nn.Linear(HIDDEN, Z)

    def forward(self, *x):
        hidden = nn.functional.softplus(self.fc1(torch.cat(x, -1)))
        return self.fc21(hidden), torch.exp(self.fc22(hidden))


def decoder(inputs):
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, PIXELS), nn.Sigmoid())


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = Encoder(PIXELS), decoder(Z)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z_loc, z_scale = x.new_zeros((x.shape[0], Z)), x.new_ones((x.shape[0], Z))
            z = pyro.sample("latent", dist.Normal(z_loc, z_scale).to_event(1))
            pyro.sample("obs", dist.Bernoulli(self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            z_loc, z_scale = self.encoder(x)
            pyro.sample("latent", dist.Normal(z_loc, z_scale).to_event(1))


def vae():
    net = VAE()
    return net.model, net.guide, images(30)[:1]


# The semi-supervised one.


class SSVAE(nn.Module):
    """The tutorial trains by two SVIs that share their parameters; here labelled rows stand beside the others."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        hidden = nn.Linear(PIXELS, HIDDEN), nn.Softplus()
        self.encoder_y = nn.Sequential(*hidden, nn.Linear(HIDDEN, CLASSES), nn.Softmax(-1))
        self.encoder_z, self.decoder = Encoder(PIXELS + CLASSES), decoder(Z + CLASSES)

    def model(self, xs, ys=None, rows=""):
        pyro.module("decoder", self.decoder)
        with pyro.plate(f"data{rows}", xs.size(0)):
            prior = xs.new_zeros(xs.size(0), Z), xs.new_ones(xs.size(0), Z)
            z = pyro.sample(f"z{rows}", dist.Normal(*prior).to_event(1))
            alpha = xs.new_ones(xs.size(0), CLASSES) / CLASSES
            ys = pyro.sample(f"y{rows}", dist.OneHotCategorical(alpha), obs=ys)
            loc = self.decoder(torch.cat([z.expand(*ys.shape[:-1], Z), ys], -1))
            pyro.sample(f"x{rows}", dist.Bernoulli(loc, validate_args=False).to_event(1), obs=xs)

    def guide(self, xs, ys=None, rows=""):
        pyro.module("encoder_z", self.encoder_z)
        with pyro.plate(f"data{rows}", xs.size(0)):
            if ys is None:
                pyro.module("encoder_y", self.encoder_y)
                ys = pyro.sample(
                    f"y{rows}", dist.OneHotCategorical(self.encoder_y(xs)), infer={"enumerate": "parallel"}
                )
            loc, scale = self.encoder_z(xs.expand(*ys.shape[:-1], PIXELS), ys)
            pyro.sample(f"z{rows}", dist.Normal(loc, scale).to_event(1))

    def model_of_both(self, xs, labelled, ys):
        """And the auxiliary loss of the tutorial: the classifier is trained by the labelled rows too."""
        self.model(xs)
        self.model(labelled, ys, "_labelled")
        pyro.module("encoder_y", self.encoder_y)
        with pyro.plate("data_aux", labelled.size(0)), poutine.scale(scale=46.0):
            pyro.sample("y_aux", dist.OneHotCategorical(self.encoder_y(labelled)), obs=ys)

    def guide_of_both(self, xs, labelled, ys):
        self.guide(xs)
        self.guide(labelled, ys, "_labelled")


def semi_supervised_unlabelled():
    net = SSVAE()
    return net.model, net.guide, images(12)[:1]


def semi_supervised_labelled():
    net = SSVAE()
    return net.model, net.guide, images(12)


def semi_supervised():
    net, (x, y) = SSVAE(), images(18)
    return net.model_of_both, net.guide_of_both, (x[:12], x[12:], y[12:])


# The deep Markov model.

STEPS, VOICES = 5, 4


class GatedTransition(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(Z, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, Z), nn.Sigmoid())
        self.proposed_mean = nn.Sequential(nn.Linear(Z, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, Z))
        self.sig, self.loc = nn.Linear(Z, Z), nn.Linear(Z, Z)
        self.loc.weight.data, self.loc.bias.data = torch.eye(Z), torch.zeros(Z)

    def forward(self, z):
        gate, proposed = self.gate(z), self.proposed_mean(z)
        return (1 - gate) * self.loc(z) + gate * proposed, nn.functional.softplus(self.sig(torch.relu(proposed)))


class Combiner(nn.Module):
    def __init__(self):
        super().__init__()
        self.z_to_hidden, self.loc, self.scale = nn.Linear(Z, HIDDEN), nn.Linear(HIDDEN, Z), nn.Linear(HIDDEN, Z)

    def forward(self, z, h):
        combined = 0.5 * (torch.tanh(self.z_to_hidden(z)) + h)
        return self.loc(combined), nn.functional.softplus(self.scale(combined))


def turned(sequences, lengths):
    """Each sequence backwards in its own length."""
    parts = zip(sequences, lengths.tolist(), strict=True)
    return torch.stack([torch.cat([row[:n].flip(0), row[n:]]) for row, n in parts])


class DMM(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.emitter = nn.Sequential(nn.Linear(Z, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, VOICES), nn.Sigmoid())
        self.trans, self.combiner = GatedTransition(), Combiner()
        self.rnn = nn.GRU(VOICES, HIDDEN, batch_first=True)
        self.z_0, self.z_q_0 = nn.Parameter(torch.zeros(Z)), nn.Parameter(torch.zeros(Z))
        self.h_0 = nn.Parameter(torch.zeros(1, 1, HIDDEN))

    def model(self, batch, reversed_batch, mask, annealing_factor=1.0):
        pyro.module("dmm", self)
        z_prev = self.z_0.expand(len(batch), Z)
        with pyro.plate("z_minibatch", len(batch)):
            for t in pyro.markov(range(1, batch.size(1) + 1)):
                z_loc, z_scale = self.trans(z_prev)
                with poutine.scale(None, annealing_factor):
                    z_t = pyro.sample(f"z_{t}", dist.Normal(z_loc, z_scale).mask(mask[:, t - 1 : t]).to_event(1))
                seen = dist.Bernoulli(self.emitter(z_t)).mask(mask[:, t - 1 : t]).to_event(1)
                pyro.sample(f"obs_x_{t}", seen, obs=batch[:, t - 1, :])
                z_prev = z_t

    def guide(self, batch, reversed_batch, mask, annealing_factor=1.0):
        pyro.module("dmm", self)
        out, _ = self.rnn(reversed_batch, self.h_0.expand(1, len(batch), HIDDEN).contiguous())
        if isinstance(out, PackedSequence):
            out = turned(*pad_packed_sequence(out, batch_first=True))
        else:
            out = out.flip(1)
        z_prev = self.z_q_0.expand(len(batch), Z)
        with pyro.plate("z_minibatch", len(batch)):
            for t in pyro.markov(range(1, batch.size(1) + 1)):
                z_loc, z_scale = self.combiner(z_prev, out[:, t - 1, :])
                with poutine.scale(None, annealing_factor):
                    z_prev = pyro.sample(f"z_{t}", dist.Normal(z_loc, z_scale).mask(mask[:, t - 1 : t]).to_event(1))


def chorales():
    """(six sequences, shape (6, STEPS, VOICES), their lengths): notes of 0 and 1, zero where a sequence has ended."""
    lengths = torch.tensor([5, 5, 4, 4, 3, 2])
    notes = torch.bernoulli(torch.full((6, STEPS, VOICES), 0.4), generator=torch.Generator().manual_seed(0))
    return notes * (torch.arange(STEPS) < lengths[:, None])[..., None], lengths


def markov_padded():
    """All sequences go through the GRU in their whole length, ends first."""
    net, (notes, lengths) = DMM(), chorales()
    mask = (torch.arange(STEPS) < lengths[:, None]).float()
    return net.model, net.guide, (notes, notes.flip(1), mask, 0.5)


def markov_packed():
    """As the tutorial does it: each sequence reversed in its own length, and packed."""
    net, (notes, lengths) = DMM(), chorales()
    packed = pack_padded_sequence(turned(notes, lengths), lengths, batch_first=True)
    mask = (torch.arange(STEPS) < lengths[:, None]).float()
    return net.model, net.guide, (notes, packed, mask, 0.5)


TUTORIALS = [vae, semi_supervised_unlabelled, semi_supervised_labelled, semi_supervised, markov_padded]
EITHER = [markov_packed]  # the lengths are in Python's hands, but the same at each step
