"""What the long tests over stand-ins rest on."""

from __future__ import annotations

from gateway.engine.models import MODEL_APIS
from gateway.vendors import VENDORS
from tests.stand_ins.stand_in import WAYS


def test_every_model_api_has_a_way_to_the_stand_ins() -> None:
    assert MODEL_APIS.keys() <= WAYS.keys()
    assert {WAYS[model_api].vendor for model_api in MODEL_APIS} <= VENDORS.keys()
