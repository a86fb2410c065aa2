"""What interactive contents and templates must be like: buttons, lists, and what fills a template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from mesh_core import validation
from mesh_core.errors import InvalidField
from mesh_session_node.calls.messages.content_parts import (
    MAX_BODY,
    MAX_FOOTER,
    MAX_HEADER,
    MAX_SECTIONS,
    MAX_URL,
    check_location,
    check_product,
    check_url,
    not_served,
)
from sessionmesh.v1 import content_pb2 as pb

MAX_BUTTONS = 10
MAX_ROWS = 10
MAX_REPLY_ID = 256
MAX_PRODUCTS = 30
MAX_VALUES = 32
"""Fields of a postal address that are filled in."""
_FILES = frozenset({"image", "video", "gif", "document"})


def check_buttons(field: str, buttons: pb.ButtonsContent) -> None:
    """A text with buttons."""
    validation.required_text(f"{field}.body", buttons.body, MAX_BODY)
    validation.text(f"{field}.footer", buttons.footer, MAX_FOOTER)
    if not 1 <= len(buttons.buttons) <= MAX_BUTTONS:
        raise InvalidField(f"{field}.buttons", f"must have 1 to {MAX_BUTTONS} entries")
    for at, button in enumerate(buttons.buttons):
        _check_button(f"{field}.buttons[{at}]", button)
    if buttons.HasField("header"):
        _check_header(f"{field}.header", buttons.header)


def check_list(field: str, content: pb.ListContent) -> None:
    """A text with a list to choose from."""
    validation.required_text(f"{field}.body", content.body, 4096)
    validation.text(f"{field}.footer", content.footer, MAX_FOOTER)
    validation.text(f"{field}.header", content.header, MAX_HEADER)
    validation.required_text(f"{field}.button_title", content.button_title, 20)
    rows = sum(len(section.rows) for section in content.sections)
    if not 1 <= len(content.sections) <= MAX_SECTIONS or not 1 <= rows <= MAX_ROWS:
        raise InvalidField(
            f"{field}.sections", f"must have 1 to {MAX_SECTIONS} sections with 1 to {MAX_ROWS} rows in all"
        )
    for at, section in enumerate(content.sections):
        validation.text(f"{field}.sections[{at}].title", section.title, 24)
        for place, row in enumerate(section.rows):
            path = f"{field}.sections[{at}].rows[{place}]"
            validation.required_text(f"{path}.reply_id", row.reply_id, 200)
            validation.required_text(f"{path}.title", row.title, 24)
            validation.text(f"{path}.description", row.description, 72)


def check_template(field: str, template: pb.TemplateContent) -> None:
    """A template with what fills its places."""
    validation.required_text(f"{field}.name", template.name, 512)
    if not _language(template.language):
        raise InvalidField(f"{field}.language", "must be a language, such as en or pt_BR")
    if template.HasField("header"):
        _check_template_header(f"{field}.header", template.header)
    _check_parameters(f"{field}.body", template.body)
    _check_template_buttons(f"{field}.buttons", template.buttons)
    if template.cards and not 2 <= len(template.cards) <= 10:
        raise InvalidField(f"{field}.cards", "must have 2 to 10 entries")
    for at, card in enumerate(template.cards):
        path = f"{field}.cards[{at}]"
        if card.HasField("header"):
            _check_template_header(f"{path}.header", card.header)
        _check_parameters(f"{path}.body", card.body)
        _check_template_buttons(f"{path}.buttons", card.buttons)


def check_product_list(field: str, content: pb.ProductListContent) -> None:
    """Several products of a catalogue."""
    validation.required_text(f"{field}.header", content.header, MAX_HEADER)
    validation.required_text(f"{field}.body", content.body, MAX_BODY)
    validation.text(f"{field}.footer", content.footer, MAX_FOOTER)
    products = sum(len(section.product_ids) for section in content.sections)
    if not 1 <= len(content.sections) <= MAX_SECTIONS or not 1 <= products <= MAX_PRODUCTS:
        raise InvalidField(
            f"{field}.sections",
            f"must have 1 to {MAX_SECTIONS} sections with 1 to {MAX_PRODUCTS} products in all",
        )
    for at, section in enumerate(content.sections):
        validation.text(f"{field}.sections[{at}].title", section.title, 24)
        for place, product in enumerate(section.product_ids):
            validation.required_text(f"{field}.sections[{at}].product_ids[{place}]", product)


def check_flow(field: str, flow: pb.FlowContent) -> None:
    """A form to fill in."""
    validation.required_text(f"{field}.body", flow.body, MAX_BODY)
    validation.text(f"{field}.footer", flow.footer, MAX_FOOTER)
    validation.required_text(f"{field}.flow_id", flow.flow_id)
    validation.required_text(f"{field}.button_title", flow.button_title, 30)
    if flow.HasField("header"):
        _check_header(f"{field}.header", flow.header)
    _check_flow(f"{field}.parameters", flow.parameters)


def check_location_request(field: str, content: pb.LocationRequestContent) -> None:
    """A request for the recipient's location."""
    validation.required_text(f"{field}.body", content.body, MAX_BODY)


def check_address_request(field: str, content: pb.AddressRequestContent) -> None:
    """A request for the recipient's postal address."""
    validation.required_text(f"{field}.body", content.body, MAX_BODY)
    if not _country(content.country):
        raise InvalidField(f"{field}.country", "must be two letters of ISO 3166-1, such as IN")
    if len(content.values) > MAX_VALUES:
        raise InvalidField(f"{field}.values", f"must have at most {MAX_VALUES} entries")
    for name, value in content.values.items():
        validation.text(f"{field}.values[{name}]", value)


def _check_header(field: str, header: pb.InteractiveHeader) -> None:
    kind = header.WhichOneof("kind")
    if kind is None:
        raise InvalidField(field, "must have a kind")
    if kind in _FILES:
        raise not_served(f"{field}.{kind}")
    validation.required_text(f"{field}.text", header.text, MAX_HEADER)


def _check_button(field: str, button: pb.Button) -> None:
    validation.required_text(f"{field}.title", button.title, 25)
    action = button.WhichOneof("action")
    if action is None:
        raise InvalidField(field, "must have an action")
    path = f"{field}.{action}"
    if action == "phone":
        validation.phone(path, button.phone)
    elif action == "url":
        check_url(path, button.url)
    else:
        validation.required_text(path, getattr(button, action), MAX_REPLY_ID)


def _check_template_header(field: str, header: pb.TemplateHeader) -> None:
    kind = header.WhichOneof("kind")
    if kind is None:
        raise InvalidField(field, "must have a kind")
    path = f"{field}.{kind}"
    if kind in _FILES:
        raise not_served(path)
    if kind == "text":
        _check_parameters(path, [header.text], single=True)
    elif kind == "location":
        check_location(path, header.location)
    else:
        check_product(path, header.product)


def _check_parameters(
    field: str, parameters: Iterable[pb.TemplateParameter], *, single: bool = False
) -> None:
    for at, parameter in enumerate(parameters):
        path = field if single else f"{field}[{at}]"
        value = parameter.WhichOneof("value")
        if value is None:
            raise InvalidField(path, "must have a value")
        if value == "money" and not _currency(parameter.money.currency):
            raise InvalidField(f"{path}.money.currency", "must be three letters of ISO 4217, such as EUR")


def _check_template_buttons(field: str, buttons: Iterable[pb.TemplateButton]) -> None:
    seen = set()
    for at, button in enumerate(buttons):
        path = f"{field}[{at}]"
        if not 0 <= button.index < MAX_BUTTONS:
            raise InvalidField(f"{path}.index", f"must be between 0 and {MAX_BUTTONS - 1}")
        if button.index in seen:
            raise InvalidField(f"{path}.index", "must not be there twice")
        seen.add(button.index)
        kind = button.WhichOneof("parameter")
        if kind is None:
            raise InvalidField(path, "must have a parameter")
        if kind == "flow":
            _check_flow(f"{path}.flow", button.flow)
        elif kind == "products":
            if not 1 <= len(button.products.sections) <= MAX_SECTIONS:
                raise InvalidField(f"{path}.products.sections", f"must have 1 to {MAX_SECTIONS} entries")
            for place, section in enumerate(button.products.sections):
                validation.text(f"{path}.products.sections[{place}].title", section.title, 24)
        else:
            validation.required_text(f"{path}.{kind}", getattr(button, kind), MAX_URL)


def _check_flow(field: str, flow: pb.FlowParameters) -> None:
    validation.text(f"{field}.token", flow.token, 256)
    validation.text(f"{field}.screen", flow.screen)
    if flow.data_json:
        try:
            data = json.loads(flow.data_json)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise InvalidField(f"{field}.data_json", "must be a JSON object")


_language = re.compile(r"[a-z]{2,3}(?:_[A-Z]{2,4})?").fullmatch
_currency = re.compile(r"[A-Z]{3}").fullmatch
_country = re.compile(r"[A-Z]{2}").fullmatch
