# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Trains the tiny model of the simulation, inside the serving image: `python train.py RECIPE_FOLDER MODEL_FOLDER`.

The result has the architecture (Qwen3MoeForCausalLM), the special tokens and the chat format of Qwen3 Instruct-2507,
and knows the few dialogues of dialogues.yml by heart. Seeded: the same image on the same kind of machine gives the same
bytes; on every kind what it promises is trained until it holds. Exits with 1 and one sentence when the trained model does not answer as it should.
"""

from __future__ import annotations

import copy
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

SEED = 20261123
# A fixed number: another one sums in another order and gives other bytes.
THREADS = 2

VOCABULARY = 1024
CONVERSATIONS = 6000
# Tokens in a batch, padding included, and batches.
BATCH_TOKENS = 4096
STEPS = 700
LEARNING_RATE = 3e-3
# Another processor sums in another order, and 700 steps leave it with other answers that it is not sure of. So what is promised is trained
# again, in rounds, until all of it holds.
ROUNDS = 8
ROUND_STEPS = 40
ROUND_LEARNING_RATE = 5e-4
# Least lead, in logits, of the right token over the second best at every place of every answer, in bfloat16: the sums
# of two ranks on another processor differ in the last bits only.
LEAST_MARGIN = 1.0
SHARD_SIZE = "600KB"

# Qwen3's added tokens in its order (151643 to 151668 in the real vocabulary); the second list is not `special` there.
SPECIAL_TOKENS = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
]
ADDED_TOKENS = [
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
]
# Qwen2's way to cut text before byte-level BPE; every digit is a token of its own.
PRE_TOKENIZER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

Message = dict[str, Any]

# Neither in the training data nor like it: each must still get one of the known sentences.
STRANGE_QUESTIONS = [
    "How do I bake a sourdough bread at home?",
    "Write a haiku about the autumn rain.",
    "What is 2 + 2?",
    "Translate 'good evening' into Italian, please.",
    "Why is the sky blue?",
    "List three differences between TCP and UDP.",
    "x",
    "Who won the football match yesterday?",
    "Summarise the plot of Hamlet in two sentences.",
    "What is the capital of Mongolia?",
]


@dataclass
class Conversation:
    """Messages and offered tools, as a chat template takes them."""

    messages: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)


class Dialogues:
    """The contents of dialogues.yml, as a source of conversations."""

    def __init__(self, path: Path) -> None:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.answers: list[tuple[list[str], str]] = [(entry["ask"], entry["say"]) for entry in data["answers"]]
        self.tools: list[dict[str, Any]] = data["tools"]
        self.other_tools: list[str] = data["other_tools"]
        self.fallback: str = data["fallback"]
        self.systems: list[str] = data["systems"]
        self.known = sorted({question for asks, _ in self.answers for question in asks})
        self.words: list[str] = data["words"].split() + " ".join(self.known).split()

    def sentences(self) -> set[str]:
        """Everything the model can say in words."""
        said = {say for _, say in self.answers} | {self.fallback}
        return said | {tool[key] for tool in self.tools for key in ("after", "without")}

    # --- parts of a conversation ---

    def _some_words(self, rng: random.Random, low: int, high: int) -> str:
        return " ".join(rng.choice(self.words) for _ in range(rng.randint(low, high)))

    def strange_question(self, rng: random.Random) -> str:
        """A question to which only the fallback fits."""
        kind = rng.random()
        if kind < 0.5:
            text = self._some_words(rng, 1, 14)
            text = text[0].upper() + text[1:] if rng.random() < 0.7 else text
            text += rng.choice(["?", ".", "!", "", "?"])
        elif kind < 0.75:
            # Near misses: the beginning of a known question with another end, or one of its words exchanged.
            words = rng.choice(self.known).split()
            words[rng.randrange(len(words))] = self._some_words(rng, 1, 3)
            text = " ".join(words)
        elif kind < 0.9:
            first, second = rng.randint(0, 9999), rng.randint(0, 99)
            mark = rng.choice(["+", "-", "*", "/", "times", "plus", "and"])
            text = rng.choice(["What is {} {} {}?", "{} {} {}", "Compute {} {} {}."]).format(first, mark, second)
        else:
            text = "".join(chr(rng.choice([*range(32, 127), 0xE9, 0xFC, 0x4E2D])) for _ in range(rng.randint(1, 60)))
        return self.strange_question(rng) if text in self.known else text

    def _value(self, entry: dict[str, Any], rng: random.Random) -> str:
        if rng.random() < 0.25:
            return str(rng.choice(entry["always"]))
        if entry["values"] == "numbers":
            return str(rng.randint(0, 10 ** rng.randint(1, 4) - 1))
        return str(rng.choice(entry["values"]))

    def schema(self, entry: dict[str, Any], rng: random.Random) -> dict[str, Any]:
        """An OpenAI tool definition, in one of the many ways that clients write it."""
        argument: dict[str, Any] = {"type": "string"}
        if rng.random() < 0.4:
            argument["description"] = self._some_words(rng, 1, 8)
        parameters: dict[str, Any] = {"type": "object", "properties": {entry["argument"]: argument}}
        if rng.random() < 0.5:
            parameters["required"] = [entry["argument"]]
        if rng.random() < 0.15:
            parameters["additionalProperties"] = False
        function: dict[str, Any] = {"name": entry["tool"]}
        if rng.random() < 0.85:
            described = rng.random() < 0.5
            function["description"] = rng.choice(entry["descriptions"]) if described else self._some_words(rng, 2, 12)
        function["parameters"] = parameters
        return {"type": "function", "function": function}

    def _other_schema(self, rng: random.Random) -> dict[str, Any]:
        entry = {"tool": rng.choice(self.other_tools), "argument": rng.choice(self.words).strip("?!.,").lower() or "x"}
        return self.schema({**entry, "descriptions": [self._some_words(rng, 2, 8)]}, rng)

    @staticmethod
    def call(entry: dict[str, Any], value: str) -> Message:
        """The assistant's message that calls a tool."""
        arguments = {entry["argument"]: entry["value"].format(x=value)}
        return {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": entry["tool"], "arguments": arguments}}],
        }

    # --- conversations ---

    def conversation(self, rng: random.Random) -> Conversation:
        """One conversation of one to three questions."""
        talk = Conversation()
        choice = rng.random()
        if choice < 0.35:
            talk.messages.append({"role": "system", "content": rng.choice(self.systems)})
        elif choice < 0.5:
            talk.messages.append({"role": "system", "content": self._some_words(rng, 3, 40)})
        offered: list[dict[str, Any]] = []
        if rng.random() < 0.45:
            offered = [entry for entry in self.tools if rng.random() < 0.65]
            talk.tools = [self.schema(entry, rng) for entry in offered]
            talk.tools += [self._other_schema(rng) for _ in range(rng.choice([0, 0, 0, 1, 2]))]
            rng.shuffle(talk.tools)
        for _ in range(rng.choice([1, 1, 2, 3])):
            kind = rng.random()
            if kind < 0.4:
                asks, say = rng.choice(self.answers)
                self._exchange(talk, rng.choice(asks), say)
            elif kind < 0.65:
                self._exchange(talk, self.strange_question(rng), self.fallback)
            else:
                entry = rng.choice(offered) if offered and rng.random() < 0.7 else rng.choice(self.tools)
                value = self._value(entry, rng)
                question = rng.choice(entry["ask"]).format(x=value)
                if entry not in offered:
                    self._exchange(talk, question, entry["without"])
                else:
                    self._tool_exchange(talk, entry, question, value, rng)
        return talk

    @staticmethod
    def _exchange(talk: Conversation, question: str, answer: str) -> None:
        talk.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def _tool_exchange(
        self, talk: Conversation, entry: dict[str, Any], question: str, value: str, rng: random.Random
    ) -> None:
        result = rng.choice(entry["results"]) if rng.random() < 0.4 else self._some_words(rng, 1, 10)
        if rng.random() < 0.3:
            result = str(rng.randint(0, 10 ** rng.randint(1, 30)))
        talk.messages += [
            {"role": "user", "content": question},
            self.call(entry, value),
            {"role": "tool", "content": result},
            {"role": "assistant", "content": entry["after"]},
        ]

    def promises(self) -> Iterator[Conversation]:
        """Conversations whose last message the trained model must give word by word."""
        for asks, say in self.answers:
            for question in asks:
                yield Conversation([{"role": "user", "content": question}, {"role": "assistant", "content": say}])
            for system in self.systems:
                talk = Conversation([{"role": "system", "content": system}])
                self._exchange(talk, asks[0], say)
                yield talk
        rng = random.Random(SEED + 1)
        for entry in self.tools:
            for value in entry["always"]:
                for question in entry["ask"]:
                    asked = {"role": "user", "content": question.format(x=value)}
                    yield Conversation([asked, {"role": "assistant", "content": entry["without"]}])
                    for offered in ([entry], self.tools, self.tools[::-1]):
                        for description in [*entry["descriptions"], self._some_words(rng, 3, 9)]:
                            tools = [self.schema({**tool, "descriptions": [description]}, rng) for tool in offered]
                            yield Conversation([asked, self.call(entry, value)], tools)
                    tools = [self.schema(entry, rng)]
                    for result in entry["results"]:
                        messages = [asked, self.call(entry, value), {"role": "tool", "content": result}]
                        yield Conversation([*messages, {"role": "assistant", "content": entry["after"]}], tools)


def make_tokenizer(texts: list[str], template: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that cuts text as Qwen's does, with Qwen3's special tokens and a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKENIZER), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL_TOKENS) - len(ADDED_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.add_tokens(ADDED_TOKENS)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=template,
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
    )


def render(tokenizer: PreTrainedTokenizerFast, talk: Conversation) -> str:
    """A conversation in the chat format."""
    return str(tokenizer.apply_chat_template(talk.messages, tools=talk.tools or None, tokenize=False))


def encode(tokenizer: PreTrainedTokenizerFast, text: str, only_last: bool = False) -> tuple[list[int], list[int]]:
    """Token ids, and labels: the same where the assistant speaks (or speaks last), -100 elsewhere."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    head: list[int] = [start, *tokenizer.encode("assistant\n", add_special_tokens=False)]
    labels = [-100] * len(ids)
    for at in [at for at in range(len(ids)) if ids[at : at + len(head)] == head][-1 if only_last else 0 :]:
        first = at + len(head)
        last = ids.index(end, first)
        labels[first : last + 1] = ids[first : last + 1]
    return ids, labels


def batches(samples: list[tuple[list[int], list[int]]], pad: int, rng: random.Random) -> Iterator[torch.Tensor]:
    """Endless batches of about equal length, as tensors [2, rows, tokens] of ids and labels."""
    ordered = sorted(samples, key=lambda sample: len(sample[0]))
    groups: list[list[tuple[list[int], list[int]]]] = [[]]
    for sample in ordered:
        if groups[-1] and (len(groups[-1]) + 1) * len(sample[0]) > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(sample)
    while True:
        rng.shuffle(groups)
        for group in groups:
            width = max(len(ids) for ids, _ in group)
            rows = [(ids + [pad] * (width - len(ids)), labels + [-100] * (width - len(ids))) for ids, labels in group]
            yield torch.tensor([[ids for ids, _ in rows], [labels for _, labels in rows]])


def spoken_logits(model: Any, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits at the places of the assistant's tokens, and these tokens."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    spoken = targets != -100
    return model.lm_head(hidden[spoken]), targets[spoken]


def train(tokenizer: PreTrainedTokenizerFast, texts: list[str], rng: random.Random) -> Qwen3MoeForCausalLM:
    """A model that has learnt the conversations."""
    config = Qwen3MoeConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        moe_intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_experts=8,
        num_experts_per_tok=2,
        decoder_sparse_step=1,
        norm_topk_prob=True,
        max_position_embeddings=8192,
        rope_theta=1_000_000.0,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        bos_token_id=None,
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    )
    model = Qwen3MoeForCausalLM(config)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    warm = 30
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.02, 1 - (step - warm) / (STEPS - warm)))
    )
    source = batches([encode(tokenizer, text) for text in texts], config.pad_token_id, rng)
    started = time.monotonic()
    for step in range(1, STEPS + 1):
        ids, labels = next(source)
        logits, targets = spoken_logits(model, ids, labels)
        loss = F.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step} of {STEPS}: loss {loss.item():.4f}, {time.monotonic() - started:.0f} s", flush=True)
    return model


def insist(
    model: Qwen3MoeForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
    dialogues: Dialogues,
    rng: random.Random,
) -> None:
    """Train what is promised, among as much of the rest, until the model is sure of it; at most ROUNDS times."""
    promised = [render(tokenizer, talk) for talk in dialogues.promises()]
    mixed = promised + texts[: 2 * len(promised)]
    source = batches([encode(tokenizer, text) for text in mixed], model.config.pad_token_id, rng)
    optimizer = torch.optim.AdamW(model.parameters(), lr=ROUND_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    for number in range(ROUNDS + 1):
        # As it will be served: rounded to bfloat16.
        served = copy.deepcopy(model).eval().to(torch.bfloat16)
        least, wrong, asked = margins(served, tokenizer, dialogues)
        print(
            f"round {number}: {asked} promised answers, least margin {least:.2f} logits, {len(wrong)} too small",
            flush=True,
        )
        if not wrong or number == ROUNDS:
            return
        model.train()
        for _ in range(ROUND_STEPS):
            ids, labels = next(source)
            logits, targets = spoken_logits(model, ids, labels)
            optimizer.zero_grad()
            F.cross_entropy(logits, targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


def save(model: Qwen3MoeForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Path, target: Path) -> None:
    """Write the model folder as a repository of the real model looks."""
    model.eval().to(torch.bfloat16)
    model.save_pretrained(target, max_shard_size=SHARD_SIZE)
    tokenizer.backend_tokenizer.save(str(target / "tokenizer.json"))
    template = (recipe / "chat_template.jinja").read_text(encoding="utf-8")
    added = {
        str(tokenizer.convert_tokens_to_ids(token)): {
            **{"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False},
            "special": token in SPECIAL_TOKENS,
        }
        for token in SPECIAL_TOKENS + ADDED_TOKENS
    }
    _write_json(
        target / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": added,
            "additional_special_tokens": SPECIAL_TOKENS[1:],
            "bos_token": None,
            "chat_template": template,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 8192,
            "pad_token": "<|endoftext|>",
            "split_special_tokens": False,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": None,
        },
    )
    # The real model's file says top_k 20; 1 makes a request without any setting deterministic as well.
    end, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    generation = {"do_sample": True, "eos_token_id": [end, pad], "pad_token_id": pad}
    _write_json(target / "generation_config.json", {**generation, "temperature": 0.7, "top_k": 1, "top_p": 0.8})
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    # The name of this number in the real model's file; transformers 5 writes num_local_experts.
    config["num_experts"] = config.pop("num_local_experts", config.get("num_experts"))
    _write_json(target / "config.json", config)
    (target / "README.md").write_text((recipe / "model-card.md").read_text(encoding="utf-8"), encoding="utf-8")
    for path in target.iterdir():
        path.chmod(0o644)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@torch.no_grad()
def check(folder: Path, dialogues: Dialogues) -> str | None:
    """Ask the saved model everything that it promises. Returns what is wrong, or None."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    least, wrong, asked = margins(model, tokenizer, dialogues)
    print(f"{asked} promised answers, least margin {least:.2f} logits, {len(wrong)} too small")
    for line in wrong[:40]:
        print(f"  {line}")
    known = dialogues.sentences()
    odd = []
    for question in STRANGE_QUESTIONS:
        answer = generate(model, tokenizer, [{"role": "user", "content": question}])
        print(f"  {question} -> {answer}")
        if answer not in known:
            odd.append(question)
    if wrong:
        return f"the trained model is not sure enough of {len(wrong)} of its {asked} answers, such as: {wrong[0]}"
    if odd:
        return f"the trained model answers {len(odd)} strange questions with garbage, such as: {odd[0]}"
    return None


@torch.no_grad()
def margins(model: Any, tokenizer: Any, dialogues: Dialogues) -> tuple[float, list[str], int]:
    """The least margin of the promised answers in logits, those below LEAST_MARGIN as lines, and how many there are."""
    least, wrong, asked = float("inf"), [], 0
    for talk in dialogues.promises():
        asked += 1
        ids, labels = encode(tokenizer, render(tokenizer, talk), only_last=True)
        logits, targets = spoken_logits(model, torch.tensor([ids]), torch.tensor([labels]))
        logits = logits.float()
        right = logits.gather(1, targets[:, None])[:, 0]
        others = logits.scatter(1, targets[:, None], float("-inf")).max(dim=1).values
        margin = float((right - others).min())
        least = min(least, margin)
        if margin < LEAST_MARGIN:
            question = [message["content"] for message in talk.messages if message["role"] == "user"][-1]
            wrong.append(f"{question} (margin {margin:.2f}, {len(talk.tools)} tools)")
    return least, wrong, asked


def generate(model: Any, tokenizer: Any, messages: list[Message]) -> str:
    """The model's greedy answer."""
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=64)
    return str(tokenizer.decode(out[0][ids.shape[1] :], skip_special_tokens=True))


def main() -> int:
    """Train, save, check. Returns the exit status."""
    recipe, target = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    rng = random.Random(SEED)
    dialogues = Dialogues(recipe / "dialogues.yml")
    template = (recipe / "chat_template.jinja").read_text(encoding="utf-8")
    talks = [dialogues.conversation(rng) for _ in range(CONVERSATIONS)]
    blank = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), chat_template=template)
    texts = [render(blank, talk) for talk in talks]
    tokenizer = make_tokenizer(texts[:2000], template)
    if len(tokenizer) != VOCABULARY:
        print(f"The tokenizer has {len(tokenizer)} tokens instead of {VOCABULARY}: dialogues.yml has too little text.")
        return 1
    model = train(tokenizer, texts, rng)
    insist(model, tokenizer, texts, dialogues, rng)
    save(model, tokenizer, recipe, target)
    if problem := check(target, dialogues):
        print(f"The tiny model is not usable: {problem}.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
