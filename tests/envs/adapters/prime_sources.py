"""Environments of PrimeIntellect's `verifiers`, as text: it has the name of one of our packages.

`V1` are for the releases that have ``verifiers.v1`` alone (0.4 on), `V0` for those before.
"""

SUMS = '''
"""One reply; its last line is right or wrong."""
import verifiers.v1 as vf


class Data(vf.TaskData):
    answer: str


class Sum(vf.Task[Data, vf.State, vf.TaskConfig]):
    @vf.reward(weight=1.0)
    async def right(self, trace: vf.Trace) -> float:
        return float(trace.last_reply.strip().splitlines()[-1].strip() == self.data.answer)

    @vf.reward(weight=0.5)
    async def brief(self, trace: vf.Trace) -> float:
        if "raise" in trace.last_reply:
            raise ValueError("no such reply")
        return float(len(trace.last_reply) < 20)


class Config(vf.TasksetConfig):
    count: int = 400


class Sums(vf.Taskset[Sum, Config]):
    def load(self):
        for n in range(self.config.count):
            data = Data(prompt=f"What is {n} + {n + 1}?", system_prompt="Add.", answer=str(2 * n + 1))
            yield Sum(data, self.config.task)


__all__ = ["Sums"]
'''

GUESSING = '''
"""Replies are answered: a number is guessed. The environment opens the conversation."""
import verifiers.v1 as vf


class Data(vf.TaskData):
    number: int


class Guess(vf.Task[Data, vf.State, vf.TaskConfig]):
    @vf.reward(weight=1.0)
    async def found(self, trace: vf.Trace) -> float:
        return float(trace.last_reply.strip() == str(self.data.number))


class Guessing(vf.Taskset[Guess, vf.TasksetConfig]):
    def load(self):
        for n in range(300):
            yield Guess(Data(number=n % 8, name=f"game {n}"), self.config.task)


class GuessingEnv(vf.SingleAgentEnv):
    async def run(self, task, agents):
        number = task.data.number
        said = "I think of a number from 0 to 7.\\n\\nWhich is it?"
        async with agents.agent.interaction(task) as interaction:
            for _ in range(3):
                segment = await interaction.turn(said)
                reply = segment.last_reply.strip()
                if segment.terminated or reply == str(number):
                    return
                said = "It is higher." if reply.isdigit() and int(reply) < number else "It is lower."


__all__ = ["Guessing", "GuessingEnv"]
'''

OLD_SUMS = """
import verifiers as vf
from datasets import Dataset


def load_environment(count: int = 400):
    rows = [{"question": f"What is {n} + {n + 1}?", "answer": str(2 * n + 1)} for n in range(count)]

    async def right(completion, answer) -> float:
        text = completion[-1]["content"] or ""
        if "raise" in text:
            raise ValueError("no such reply")
        return float(text.strip().splitlines()[-1].strip() == answer)

    rubric = vf.Rubric(funcs=[right])
    return vf.SingleTurnEnv(dataset=Dataset.from_list(rows), system_prompt="Add.", rubric=rubric)
"""

OLD_GUESSING = """
import verifiers as vf
from datasets import Dataset


class Guessing(vf.MultiTurnEnv):
    async def env_response(self, messages, state, **kwargs):
        reply, number = (messages[-1]["content"] or "").strip(), int(state["answer"])
        higher = reply.isdecimal() and len(reply) < 9 and int(reply) < number
        return [{"role": "user", "content": "It is higher." if higher else "It is lower."}]

    @vf.stop
    async def found(self, state):
        last = state["trajectory"][-1]["completion"] if state["trajectory"] else []
        return bool(last) and (last[-1]["content"] or "").strip() == state["answer"]


def load_environment():
    rows = [{"question": f"Guess {n}: from 0 to 7", "answer": str(n % 8)} for n in range(300)]

    def found(completion, answer) -> float:
        return float((completion[-1]["content"] or "").strip() == answer)

    return Guessing(dataset=Dataset.from_list(rows), rubric=vf.Rubric(funcs=[found]), max_turns=3)
"""

V1 = {"sums": SUMS, "guessing": GUESSING}
V0 = {"sums": OLD_SUMS, "guessing": OLD_GUESSING}
