"""Facts and events for the tests of emc: plain ones to vary, and hypothesis strategies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from connector.emc.event import EmcEvent, EmcUser
from connector.mapping.facts import (
    Channel,
    Facts,
    Milestone,
    PaymentChannel,
    ResultChannel,
    UserFacts,
    UserType,
)
from connector.settings import EmcSettings

CITIZEN = EmcUser(ID_local=None, ID_QG="cd-0001", TYPE=2, LOCATION="000.00.02.H10")
RECEIVED = EmcEvent(
    CodeProfile="000.00.11.H56-191203-1508",
    SiteId=327,
    CodeTTHC="2.000082",
    NameTTHC="Cấp giấy bưu chính",
    Status=1,
    FormsReception=1,
    FormsPayments=0,
    Level=4,
    IsFromDVCQG=0,
    IsDVCBC=0,
    Data="",
    User=CITIZEN,
)
"""An online dossier was received: keeps every rule, with nothing to warn of."""

FACTS = Facts(
    code_profile="000.00.11.H56-191203-1508",
    site_id=327,
    code_tthc="2.000082",
    name_tthc="Cấp giấy bưu chính",
    level=4,
    from_dvcqg=False,
    reception=Channel.ONLINE,
    result=ResultChannel.DESK,
    payment=PaymentChannel.NONE,
    user=UserFacts(UserType.CITIZEN, "cd-0001", "000.00.02.H10"),
    data=None,
    reached=frozenset({Milestone.RECEIVED}),
)
"""Received, nothing else yet; everything is known."""

# What a PostgreSQL database in UTF-8 can hold: no NUL, no lone surrogates.
pg_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
shown_text = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="\ufffd"), max_size=12)
filled_text = shown_text.filter(lambda text: bool(text.strip()))


def reached(*milestones: Milestone, **changes: Any) -> Facts:
    """`FACTS` with these milestones, and whatever else is given."""
    return replace(FACTS, reached=frozenset(milestones), **changes)


@st.composite
def users(draw: st.DrawFn) -> EmcUser:
    """Users the guide allows."""
    kind = draw(st.sampled_from((1, 2, 3)))
    local = kind == 1 or (kind == 3 and draw(st.booleans()))
    account = draw(filled_text)
    return EmcUser(account if local else None, None if local else account, kind, draw(filled_text))


@st.composite
def allowed_events(draw: st.DrawFn) -> EmcEvent:
    """Events that break no rule (they may be warned of)."""
    status, level = draw(st.sampled_from((0, 1, 2, 3))), draw(st.sampled_from((0, 3, 4)))
    post = draw(st.sampled_from((0, 1, 2))) if status == 3 else 0
    reception = 1 if post else draw(st.sampled_from((1, 2)))
    return EmcEvent(
        CodeProfile=draw(filled_text),
        SiteId=draw(st.integers(1, 2**31)),
        CodeTTHC=draw(filled_text),
        NameTTHC=draw(filled_text),
        Status=status,
        FormsReception=2 if level == 0 and status != 3 else reception,
        FormsPayments=draw(st.sampled_from((0, 1, 2))) if status == 3 else 0,
        Level=level,
        IsFromDVCQG=draw(st.sampled_from((0, 1))),
        IsDVCBC=post,
        Data=draw(shown_text),
        User=draw(users()),
    )


any_integer = st.integers(-2, 5)
any_event = st.builds(
    EmcEvent,
    CodeProfile=pg_text,
    SiteId=st.integers(-(2**40), 2**40),
    CodeTTHC=pg_text,
    NameTTHC=pg_text,
    Status=any_integer,
    FormsReception=any_integer,
    FormsPayments=any_integer,
    Level=any_integer,
    IsFromDVCQG=any_integer,
    IsDVCBC=any_integer,
    Data=pg_text,
    User=st.builds(EmcUser, st.none() | pg_text, st.none() | pg_text, any_integer, pg_text),
)
"""Events of any kind, right or wrong."""

settings_variants = st.builds(
    EmcSettings,
    encoding=st.sampled_from(("form", "json")),
    key_case=st.sampled_from(("guide", "camel")),
    user_key=st.sampled_from(("User", "user")),
    numbers=st.sampled_from(("number", "string")),
    null_payment=st.sampled_from(("zero", "empty", "omit")),
    officer_id=st.sampled_from(("ID_local", "ID_QG")),
    payment=st.sampled_from(("with_result", "immediate")),
)

all_facts = st.builds(
    Facts,
    code_profile=st.sampled_from((None, "A-1", "A-1", "A-1", "A-2")),
    site_id=st.just(327),
    code_tthc=st.just("2.000082"),
    name_tthc=st.sampled_from((None, "Khai sinh", "Khai sinh", "Khai sinh", "Kết hôn")),
    level=st.sampled_from((0, 3, 4)),
    from_dvcqg=st.booleans(),
    reception=st.sampled_from((None, *Channel)),
    result=st.sampled_from((None, *ResultChannel)),
    payment=st.sampled_from((None, *PaymentChannel)),
    user=st.builds(
        UserFacts,
        st.sampled_from(tuple(UserType)),
        st.sampled_from(("u1", "u1", "u2")),
        st.sampled_from((None, "000.00.02.H10", "000.00.02.H10", "000.00.03.H10")),
    ),
    data=st.none(),
    reached=st.frozensets(st.sampled_from(tuple(Milestone))),
    missing=st.sampled_from(((), (), (), ("unit: no row in motcua.don_vi",))),
)
"""Facts as a mapping may state them at one commit, unknown ones among them."""

_CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "reached": st.frozensets(st.sampled_from(tuple(Milestone))),
    "payment": st.sampled_from((None, *PaymentChannel)),
    "result": st.sampled_from((None, *ResultChannel)),
    "reception": st.sampled_from((None, *Channel)),
    "level": st.sampled_from((None, 0, 3, 4)),
    "name_tthc": st.sampled_from(("Khai sinh", "Kết hôn")),
    "code_profile": st.sampled_from((None, "A-1")),
    "missing": st.sampled_from(((), ("unit: no row in motcua.don_vi",))),
}
_OFTEN = ("reached", "payment")


@st.composite
def lives(draw: st.DrawFn) -> list[Facts]:
    """What commits make of one dossier: few things change at a time, milestones and payment most often."""
    facts = FACTS
    life = [facts]
    for _ in range(draw(st.integers(0, 8))):
        changed = draw(st.sets(st.sampled_from((*_OFTEN, *_OFTEN, *_CHANGES)), min_size=1, max_size=2))
        facts = replace(facts, **{name: draw(_CHANGES[name]) for name in sorted(changed)})
        life.append(facts)
    return life
