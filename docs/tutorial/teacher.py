"""The policy that is there already: a plain PyTorch network, and its weights in a file."""

from pathlib import Path

import torch
from torch import nn

import kdnas


def make_network():
    return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 5))


def load(spec, file):
    network = make_network()
    network.load_state_dict(torch.load(Path(__file__).with_name(file), weights_only=True))
    return kdnas.Teacher(spec, actors={group: network for group in spec.groups})
