"""A server of the package openenv, as text: it runs in another interpreter."""

GUESSING = '''
"""A number is guessed; arguments: the port, and how many sessions."""
import random
import sys

import uvicorn
from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app
from pydantic import Field


class Guess(Action):
    number: int = Field(ge=0, le=7, description="from 0 to 7")


class Seen(Observation):
    said: str = ""


class Guessing(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self.number, self.steps = 0, 0

    def reset(self, seed=None, episode_id=None, **more):
        self.number, self.steps = random.Random(seed).randrange(8), 0
        return Seen(said="I think of a number from 0 to 7.")

    def step(self, action, timeout_s=None, **more):
        self.steps += 1
        if action.number == self.number:
            return Seen(said="Right.", reward=1.0, done=True)
        return Seen(said="Higher." if action.number < self.number else "Lower.", reward=0.0, done=self.steps == 4)

    @property
    def state(self):
        return State(step_count=self.steps)


app = create_fastapi_app(Guessing, Guess, Seen, max_concurrent_envs=int(sys.argv[2]))
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
'''
