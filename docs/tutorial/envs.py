"""Two drones fly to a beacon each, and keep out of each other's way."""

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

MOVES = 0.2 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])


class Drones(ParallelEnv):
    metadata = {"name": "drones"}
    possible_agents = ["red", "blue"]

    def observation_space(self, agent):
        return Box(-np.inf, np.inf, (4,))

    def action_space(self, agent):
        return Discrete(len(MOVES))

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.drones, self.beacons = np.random.default_rng(seed).uniform(-1, 1, (2, 2, 2))
        return self.seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.drones += MOVES[[actions[agent] for agent in self.agents]]
        rewards = -np.linalg.norm(self.beacons - self.drones, axis=1)
        rewards -= np.linalg.norm(self.drones[0] - self.drones[1]) < 0.3
        nobody = dict.fromkeys(self.agents, False)
        return self.seen(), dict(zip(self.agents, rewards)), nobody, nobody, {agent: {} for agent in self.agents}

    def seen(self):  # the way to the own beacon, and the way to the other drone
        ways = np.hstack([self.beacons - self.drones, self.drones[::-1] - self.drones])
        return dict(zip(self.agents, ways))
