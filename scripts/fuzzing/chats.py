"""Kinds of cases for conversations and token ids: rows of a dataset, chat templates, prompts."""

import json
from pathlib import Path
from random import Random

from fuzzing.case import Case, Kind, command
from fuzzing.damage import damaged, put, remove
from fuzzing.inputs import CONFIG, PROMPT_TEXTS
from fuzzing.values import edited, odd_text, odd_value, shown, to_json

TURN = '{"role": "user", "content": "sun"}'
CHAT_LINES = (
    '{"messages": null}', '{"messages": []}', "{}", '{"messages": {}}', '{"messages": "sun"}', '{"messages": [1]}',
    '{"messages": [null]}', '{"messages": [[]]}', '{"messages": [{}]}', '{"messages": [{"role": "user"}]}',
    '{"messages": [{"role": "user", "content": null}]}', '{"messages": [{"role": "user", "content": ""}]}',
    '{"messages": [{"role": "user", "content": ["sun"]}]}', '{"messages": [{"role": "gpt", "content": "sun"}]}',
    '{"messages": [{"role": ["user"], "content": "sun"}]}', '{"messages": [{"from": "human", "value": "sun"}]}',
    '{"messages": [{"role": "user", "content": "\\ud800"}]}', f'{{"messages": [{TURN}], "messages": []}}',
    '{"messages": [{"role": "user", "role": "tool", "content": "sun"}]}', f'{{"conversations": [{TURN}]}}',
    '{"messages": [{"role": "\\u001b[31m", "content": "sun"}]}',
    '{"messages": [{"role": "user", "content": "<s><s>"}]}',
    '{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}", f'{{"messages": [{", ".join([TURN] * 20_000)}]}}',
    '{"messages": [{"role": "user", "content": "' + "sun " * 200_000 + '"}]}',
    '{"messages": [{"role": "user", "content": 1}]}',
)  # fmt: skip
TEMPLATES = (
    "", " ", "{% for %}", "{{ raise_exception('no') }}", "{{ raise_exception('\x1b[31mno\x1b]0;pwned\x07') }}",
    "{{ 1 / 0 }}",
    "{% for x in range(10**9) %}{{ x }}{% endfor %}", "{{ messages[99].content.x }}", "{{ 'x' * 10**30 }}",
    "{{ 1 + 'a' }}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "{{ ''.__class__.__mro__ }}", "{% include 'run.yaml' %}",
    "{{ messages }}", "{{ '{0}'.format() }}", "{{ cycler.__init__.__globals__ }}", "{{ bos_token }}{{ bos_token }} sun",
    "sun", "{{ messages[0].content }}", "{{ messages[0].content | upper }}", "{{ 'sun ' * 100 }}", "{{ 'x' * 2**26 }}",
    "{% generation %}", "{{ strftime_now('%Y') }}", "\x00", "{% set x = messages.append(1) %}{{ x }}", "{{ tools.x }}",
    "{% for m in messages %}{{ m.content }}", "{{ messages | tojson }}", "{{ lipsum() }}", "{{ self }}", "{# ",
)  # fmt: skip

PROMPT_IDS = (
    "1,2,3", "[3, 4]", "3 4 5", "[]", "0", "22", "23", "-1", "1,,2", "1.5", "[[1]]", "x", "9" * 30, "1 " * 5000, "1e3",
    "0x1F", "\u0663", "3," * 70, "[3, null]", "true", "\x1b[31m3", "{a: 1}", "0 0 3",
)  # fmt: skip

OF_CHATS = ["--data.dataset=chats", "--data.format=chat"]


def chat(rng: Random, root: Path) -> Case:
    """A chat template or a file of conversations that is damaged, edited or something else."""
    model = ["--model.model_id=chatty", "--export.folder=elsewhere"]
    if rng.random() < 0.5:
        path = root / "chatty" / "chat_template.jinja"
        if rng.random() < 0.7:
            content = rng.choice(TEMPLATES)
            put(path, content)
            title = f"template: {shown(content)}"
        else:
            title = damaged(rng, path)
        reader = rng.choice((["selftest", "--data.prompts=chat.yaml"], ["fit", *OF_CHATS], ["read", "sun", "--chat"]))
        if reader[0] == "read":
            return command(title, [*reader, "--model", "chatty"])
        return command(title, [reader[0], *CONFIG, *model[: 1 if reader[0] == "selftest" else 2], *reader[1:]])
    path = root / "chats" / "000.jsonl"
    way = rng.random()
    if way < 0.5:
        line, place = rng.choice((*CHAT_LINES, to_json({"messages": odd_value(rng)}))), rng.choice((0, 1, 90, 199))
        lines = path.read_text().splitlines()
        lines.insert(place, line)
        put(path, "\n".join(lines))
        title = f"line {place + 1}: {shown(line)}"
    elif way < 0.7:
        title = damaged(rng, path)
    elif way < 0.8:
        data = path.read_bytes()
        remove(path)
        path = path.with_name(rng.choice(("a.txt", "a.jsonl.gz", "a.csv", "a.json")))
        put(path, data)
        title = f"conversations as {path.name}"
    else:
        rows = [json.loads(line)["messages"] for line in path.read_text().splitlines()]
        rows[rng.choice((0, 1, 90))], title = edited(rng, rows[1])
        put(path, "".join(to_json({"messages": row}) + "\n" for row in rows))
    reader = rng.choice((["fit"], ["fit"], ["prism"]))
    form = rng.choice((OF_CHATS, OF_CHATS, [*OF_CHATS, "--data.text_column=nothing"], ["--data.dataset=chats"]))
    return command(title, [*reader, *CONFIG, *(model if reader == ["fit"] else model[:1]), *form])


def prompt_forms(rng: Random, root: Path) -> Case:
    """A conversation or token ids on the command line, to a model with a chat template or without."""
    model = rng.choice(("chatty", "chatty", "tiny"))
    text, ids = rng.choice((*PROMPT_TEXTS, odd_text(rng))), rng.choice((*PROMPT_IDS, odd_text(rng)))
    way = rng.random()
    if way < 0.35:
        given = ["read", text, "--chat", "--model", model]
        given += [] if rng.random() < 0.5 else ["--system", rng.choice((*PROMPT_TEXTS, odd_text(rng)))]
    elif way < 0.7:
        given = ["read", ids, "--ids", "--model", model]
    else:
        special = rng.choice(("auto", "none", "none", odd_text(rng)))
        prompt = rng.choice((f"--data.token_ids={ids}", f"--data.prompt={text}"))
        given = ["selftest", *CONFIG, f"--model.model_id={model}", prompt, f"--data.special_tokens={special}"]
    given = [part.replace("\0", "") for part in given]
    return command(", ".join(shown(part) for part in given), given)


KINDS = (
    Kind("chat", 400, chat),
    Kind("prompt forms", 150, prompt_forms),
)
