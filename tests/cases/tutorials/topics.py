"""Latent Dirichlet allocation as in Pyro's examples/lda.py, small: words of documents are summed over their topics.

Each function makes a pair with its data anew: (model, guide or None, data), as in `tests.cases.tutorials.small`.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import config_enumerate
from torch import nn
from torch.distributions import constraints

TOPICS, WORDS, DOCUMENTS, LENGTH = 2, 6, 8, 10


def documents():
    """Which word stands where, shape (LENGTH, DOCUMENTS): half of the documents use the first words, half the last."""
    drawn = torch.randint(0, WORDS // 2, (LENGTH, DOCUMENTS), generator=torch.Generator().manual_seed(0))
    return drawn + WORDS // 2 * (torch.arange(DOCUMENTS) % 2)


def topics(batch_size):
    @config_enumerate
    def model(data):
        with pyro.plate("topics", TOPICS):
            topic_weights = pyro.sample("topic_weights", dist.Gamma(1.0 / TOPICS, 1.0))
            topic_words = pyro.sample("topic_words", dist.Dirichlet(torch.ones(WORDS) / WORDS))
        with pyro.plate("documents", DOCUMENTS, batch_size) as ind:
            doc_topics = pyro.sample("doc_topics", dist.Dirichlet(topic_weights))
            with pyro.plate("words", LENGTH):
                word_topics = pyro.sample("word_topics", dist.Categorical(doc_topics))
                pyro.sample("doc_words", dist.Categorical(topic_words[word_topics]), obs=data[:, ind])

    return model


def predictor():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WORDS, 8), nn.Sigmoid(), nn.Linear(8, TOPICS), nn.Softmax(-1))


def amortised(net, batch_size):
    def guide(data):
        weights = pyro.param("topic_weights_posterior", torch.ones(TOPICS), constraint=constraints.positive)
        words = torch.linspace(1.0, 2.0, TOPICS * WORDS).reshape(TOPICS, WORDS)
        words = pyro.param("topic_words_posterior", words, constraint=constraints.greater_than(0.5))
        with pyro.plate("topics", TOPICS):
            pyro.sample("topic_weights", dist.Gamma(weights, 1.0))
            pyro.sample("topic_words", dist.Dirichlet(words))
        pyro.module("predictor", net)
        with pyro.plate("documents", DOCUMENTS, batch_size) as ind:
            taken = data[:, ind]
            counts = torch.zeros(WORDS, ind.size(0)).scatter_add(0, taken, torch.ones(taken.shape))
            pyro.sample("doc_topics", dist.Delta(net(counts.transpose(0, 1)), event_dim=1))

    return guide


def lda_amortised():
    return topics(None), amortised(predictor(), None), (documents(),)


def lda_subsampled():
    return topics(4), amortised(predictor(), 4), (documents(),)


def lda_mean_field():
    return topics(None), None, (documents(),)


TUTORIALS = [lda_amortised, lda_subsampled, lda_mean_field]
