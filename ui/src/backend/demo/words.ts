/** What the demo's model says. */

export const GREETING = `Hello! I run on **three phones at once**, and on nothing else. Each of them holds some of my layers, and every word of this went once round all of them.

What shall we talk about?`;

export const SKY = `Sunlight looks white, but it is a mix of all colours. On its way down it meets the molecules of the air, and they scatter **short waves far more than long ones**:

- scattering grows with the fourth power of frequency, so blue light is scattered about *five times* as much as red
- the scattered light then reaches your eye from every direction, and the whole sky looks blue
- at sunset the light comes a longer way, most of the blue is gone by then, and red is what is left

This is called [Rayleigh scattering](https://en.wikipedia.org/wiki/Rayleigh_scattering).`;

export const CODE = `A ring is easiest to see in a few lines. Each phone adds its layers and hands the result on:

\`\`\`python
def lap(hidden, ring):
    """One token's way round all phones."""
    for phone in ring:
        hidden = phone.run_layers(hidden)  # only numbers travel
    return hidden

token = sample(lap(embed("Hello"), ring))
\`\`\`

Only the first phone ever sees words. If you want to try it, \`ring\` may be any list of objects with a \`run_layers\` method.`;

export const TABLE = `Here is how the three compare:

| Model | Memory | On one phone | On this group |
| --- | ---: | :---: | :---: |
| Llama 3.2 1B | 1.1 GB | 19 tokens/s | 15 tokens/s |
| Llama 3.2 3B | 2.5 GB | 8 tokens/s | 7 tokens/s |
| Qwen3 8B | 5.6 GB | does not fit | 3 tokens/s |

1. A group is **not faster** than one phone that has room for the model.
2. It is what makes the larger model *possible*.

> Pick the smallest model that is good enough.`;

export const TRIP = `A day in the hills, easy to change if the weather turns:

### Morning
Take the early train, and start walking before ten. The path along the stream stays in the shade until noon.

### Noon
There is a hut at the saddle. Bring cash, they have no card reader.

### Afternoon
- the **short way** down takes an hour
- the **long way** passes the lake; pack a towel

Shall I write a packing list?`;

export const HOSTILE = `<script>document.title = "owned"</script>

<img src="https://tracker.example/pixel.gif" onerror="document.title='owned'"> and ![a remote picture](https://tracker.example/pixel.png)

[click me](javascript:document.title='owned') or [me](data:text/html,owned), or a [good one](https://example.org/).

<style>* { display: none }</style><iframe src="https://tracker.example"></iframe>

\u202Ethis would run backwards\u202C and \u0007ring a bell.

<div style="position:fixed;inset:0" onclick="document.title='owned'">over everything</div>

A word without an end: ${"W".repeat(600)}`;

/** By what a question mentions; the first that matches. */
export const ANSWERS: Array<[RegExp, string]> = [
    [/hostile|script/i, HOSTILE],
    [/sky|blue|himmel|blau/i, SKY],
    [/code|python|ring|program/i, CODE],
    [/compar|model|table|vergleich|tabelle/i, TABLE],
    [/trip|walk|weekend|ausflug|wander/i, TRIP],
];

export const QUESTIONS = [
    "Why is the sky blue?",
    "Show me in code how a ring works",
    "Compare the models for me",
    "Plan a walk for Saturday",
];
