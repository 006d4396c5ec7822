"""A word-level tokenizer of about 150 tokens and an untrained Llama, as folders that engines load.

Text survives the round trip exactly: every word carries its leading space, and a line's first word
gets one on the way in and loses it on the way out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from world import KINDS, LEVELS, NONE, PHRASES, WORDS

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<end>", "<unk>", "<user>", "<judge>")
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<judge>' if m.role == 'assistant' else '<user>' }}{{ m.content }}"
    "{% if m.role == 'assistant' %}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<judge>{% endif %}"
)
SPLIT = (
    r"\n| ?\\boxed\{\}| ?\[\[[^\]]*\]\]| \(weight \d+%\):| ?Specific Criteria:| ?Analysis:"
    r"| ?Scores: \\¦?boxed\{| ?response \d+:| ?\d+\.| ?\w+[;:]?| ?[^\w\s]+| "
)


def vocabulary() -> list[str]:
    """Every token, special ones first."""
    phrases = {word for phrase in PHRASES.values() for word in phrase.split() if word != "{}"}
    words = sorted({*WORDS, *(w.upper() for w in WORDS), *KINDS, *LEVELS, *phrases, NONE})
    words += ["saw", "glance", "yes;", "no;", "total", "hint:", "best", "\\boxed{}"]
    words += ["judge:", "plain:", "grade:", "trust:", "write:", "look:"]  # what a prompt asks for
    words += [str(number) for number in range(20)]
    words += [f"{number}." for number in range(1, 5)]
    for number in range(1, 5):
        words += [f"[[response {number} begins]]", f"[[response {number} ends]]", f"response {number}:"]
    words += [f"(weight {number}%):" for number in range(0, 101, 10)]
    words += [
        "Specific Criteria:",
        "Analysis:",
        "Scores: \\boxed{",
        "Scores: \\¦boxed{",
    ]  # ¦: as shown to the meta RM
    bare = [str(number) for number in range(11)]  # right after the brace
    return [*SPECIAL, "\n", ",", "}", *bare, *(f" {word}" for word in words)]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer with its chat template."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {token: i for i, token in enumerate(vocabulary())}
    core = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    core.normalizer = normalizers.Replace(Regex(r"^(?=[^\s\[]|\[)|(?<=\n)(?=\S)"), " ")
    core.pre_tokenizer = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    core.decoder = decoders.Sequence(
        [decoders.Fuse(), decoders.Replace("\n ", "\n"), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unk>",
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def build_model(seed: int, *, width: int = 96, layers: int = 3, heads: int = 4) -> LlamaForCausalLM:
    """Build an untrained Llama of about 0.4 M parameters for this vocabulary.

    The short rotary base suits sequences of 200 tokens, and the initial scales (embeddings 0.5,
    matrices 1/sqrt(inputs), residual outputs less by depth) train at a learning rate of 3e-3.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary()),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=512,
            rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
            rms_norm_eps=1e-6,
            tie_word_embeddings=False,
            pad_token_id=SPECIAL.index("<pad>"),
            bos_token_id=None,
            eos_token_id=SPECIAL.index("<end>"),
        )
    )
    depth = (2 * layers) ** -0.5
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            out = depth if "o_proj" in name or "down_proj" in name else 0.5 if "lm_head" in name else 1.0
            torch.nn.init.normal_(weight, std=0.5 if "embed" in name else out * weight.shape[1] ** -0.5)
    return model


def save_untrained(folder: Path, seed: int) -> None:
    """Write model and tokenizer as a folder that transformers, TRL and vLLM load."""
    build_model(seed).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
