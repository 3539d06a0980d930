"""Slack's way of writing, to and from plain words."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.platforms.slack_text import LONGEST_TEXT, message_text, to_mrkdwn, to_plain, unescape

texts = st.text(max_size=300) | st.lists(
    st.sampled_from(
        ["**", "~~", "`", "```", "\n", "# ", "[a](http://b.c)", "<!here>", "<@U1>", "&", "x", "字", " "]
    )
).map("".join)


@pytest.mark.parametrize(
    ("markdown", "mrkdwn"),
    [
        ("plain words", "plain words"),
        ("**bold** and ~~gone~~", "*bold* and ~gone~"),
        ("# Title #\ntext\n### **Part** one", "*Title*\ntext\n*Part one*"),
        ("see [the docs](https://a.b/c_(d)?e=1&f=2).", "see <https://a.b/c_(d)?e=1&amp;f=2|the docs>."),
        ("![a picture](https://a.b/c.png)", "<https://a.b/c.png|a picture>"),
        ("[not a link](javascript:alert)", "[not a link](javascript:alert)"),
        ("`**a** <b>` **c**", "`**a** &lt;b&gt;` *c*"),
        ("```python\n# not a title\na **b** c\n```", "```\n# not a title\na **b** c\n```"),
        ("```\n**still open", "```\n**still open"),
        ("**use `x`** now", "*use `x`* now"),
        ("这是**重点**内容", "这是\u200b*重点*\u200b内容"),
        ("2 ** 3 ** 4 and a ** b", "2 ** 3 ** 4 and a ** b"),
        ("**open and * star", "**open and * star"),
        ("a < b && c > d", "a &lt; b &amp;&amp; c &gt; d"),
        ("<!here> <@U123> <#C1>", "&lt;!here&gt; &lt;@U123&gt; &lt;#C1&gt;"),
    ],
)
def test_markdown_becomes_mrkdwn(markdown: str, mrkdwn: str) -> None:
    assert to_mrkdwn(markdown) == mrkdwn


@given(texts)
def test_no_text_can_mention_anybody(markdown: str) -> None:
    without_links = re.sub(r"<https?://[^<>|]+\|[^<>]+>", "", to_mrkdwn(markdown))
    assert "<" not in without_links and ">" not in without_links


@given(st.text(alphabet=st.characters(exclude_characters="*~`[]#\x00")))
def test_words_without_markdown_arrive_unchanged(words: str) -> None:
    assert unescape(to_mrkdwn(words)) == words


@given(st.text(alphabet="ab*~[]()#<>& ", min_size=1))
def test_code_arrives_unchanged(code: str) -> None:
    assert unescape(to_mrkdwn(f"**x** `{code}` ~~y~~")) == f"*x* `{code}` ~y~"
    assert unescape(to_mrkdwn(f"```\n{code}\n```")) == f"```\n{code}\n```"


@given(texts, texts.map(lambda text: text[:100]))
def test_a_message_is_never_too_long_for_slack(text: str, heading: str) -> None:
    text = (text or "x") * (3500 // len(text or "x"))
    assert len(message_text(text[: 3500 - len(heading)], heading)) <= LONGEST_TEXT


def test_only_a_text_full_of_escapes_gets_lookalikes() -> None:
    assert message_text("<b>" * 100) == "&lt;b&gt;" * 100
    assert message_text("<b>" * 1000) == "‹b›" * 1000


@pytest.mark.parametrize(
    ("from_slack", "plain"),
    [
        ("<@U0BOT> hello", "hello"),
        ("<@U0BOT|parley>: hello", "hello"),
        ("hello <@U0BOT>, are you there?", "hello, are you there?"),
        ("thanks <@U0BOT>", "thanks"),
        ("<@U0BOT>", ""),
        ("ask <@U1ADA>, not <@U2BOB|bob> or <@U3>", "ask @Ada, not @bob or @U3"),
        ("in <#C1|general> or <#C2>", "in #general or #C2"),
        ("<!here> <!subteam^S1|@devs> <!subteam^S2> <!date^1^{date}|today>", "@here @devs @subteam today"),
        ("<https://a.b/c|the docs>", "the docs (https://a.b/c)"),
        ("<https://a.b/c>", "https://a.b/c"),
        ("<http://a.b|a.b> <mailto:x@a.b|x@a.b>", "a.b x@a.b"),
        ("1 &lt; 2 &amp;&amp; &amp;lt;", "1 < 2 && &lt;"),
        ("two\n\n  lines\n", "two\n\n  lines"),
    ],
)
def test_a_message_from_slack_becomes_plain(from_slack: str, plain: str) -> None:
    assert to_plain(from_slack, "U0BOT", {"U1ADA": "Ada"}) == plain
