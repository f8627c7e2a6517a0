"""REST: devices, their slots, labels, enrolment, and what they told."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, get, patch, post, put
from litestar.openapi.spec import Example
from litestar.params import Body, PathParameter, QueryParameter

from whimbrel_core import identity
from whimbrel_server.api.access import actor, may_change, may_read
from whimbrel_server.api.bodies import AssignmentBody, EnrolmentBody, LabelsBody
from whimbrel_server.api.dependency import Fleet
from whimbrel_server.api.responses import CHANGES, READS
from whimbrel_server.views.devices import CountsView, DeviceView, EventView
from whimbrel_server.views.enrolment import Enrolment

DevicePath = Annotated[
    str, PathParameter(description="the device's id", examples=[Example(value="lga")])
]


class DevicesController(Controller):
    """Devices as the server knows them."""

    path = "/devices"
    tags = ("devices",)

    @get(guards=[may_read], summary="List devices", responses=READS, sync_to_thread=True)
    def all(self, fleet: Fleet) -> tuple[DeviceView, ...]:
        """Return every enrolled device with its slots, freshness and worst drift state."""
        return fleet.devices()

    @get(
        "/{device:str}",
        guards=[may_read],
        summary="Get one device",
        responses=READS,
        sync_to_thread=True,
    )
    def one(self, fleet: Fleet, device: DevicePath) -> DeviceView:
        """Return one device."""
        return fleet.device(device)

    @patch(
        "/{device:str}",
        guards=[may_change],
        summary="Label a device",
        responses=CHANGES,
        sync_to_thread=True,
    )
    def label(
        self,
        fleet: Fleet,
        request: Request[Any, Any, Any],
        device: DevicePath,
        data: Annotated[
            LabelsBody,
            Body(examples=[Example(value={"labels": {"site": "north", "ring": "canary"}})]),
        ],
    ) -> DeviceView:
        """Set labels; cohorts and rollout waves are made of them."""
        return fleet.label_device(device, data.labels, actor(request))

    @put(
        "/{device:str}/slots/{slot:str}",
        guards=[may_change],
        summary="Assign a version to a slot",
        responses=CHANGES,
        sync_to_thread=True,
    )
    def assign(
        self,
        fleet: Fleet,
        request: Request[Any, Any, Any],
        device: DevicePath,
        slot: Annotated[
            str, PathParameter(description="the slot's name", examples=[Example(value="flights")])
        ],
        data: Annotated[
            AssignmentBody, Body(examples=[Example(value={"model": "flights", "version": "1.1.0"})])
        ],
    ) -> DeviceView:
        """Assign directly, without waves: for a first device, or a repair."""
        identity.slot_name(slot)
        return fleet.assign(device, slot, data.model, data.version, actor(request))

    @post(
        "/{device:str}/enrolment",
        guards=[may_change],
        summary="Enrol a device",
        responses=CHANGES,
        sync_to_thread=True,
    )
    def enrol(
        self,
        fleet: Fleet,
        request: Request[Any, Any, Any],
        device: DevicePath,
        data: Annotated[
            EnrolmentBody,
            Body(
                examples=[
                    Example(
                        value={
                            "csr_pem": "-----BEGIN CERTIFICATE REQUEST-----\n…",
                            "labels": {"site": "north"},
                        }
                    )
                ]
            ),
        ],
    ) -> Enrolment:
        """Sign the certificate request and return certificate, trust anchor and addresses."""
        identity.device_id(device)
        return fleet.enrol(device, data.csr_pem, data.labels, actor(request))


class TelemetryController(Controller):
    """What came in from devices."""

    path = "/"
    tags = ("telemetry",)

    @get(
        "/events",
        guards=[may_read],
        summary="List device events",
        responses=READS,
        sync_to_thread=True,
    )
    def events(
        self,
        fleet: Fleet,
        device: Annotated[str | None, QueryParameter(description="only of this device")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=1000, description="at most so many")] = 200,
    ) -> tuple[EventView, ...]:
        """Return update steps and local alarms, newest first."""
        return fleet.events(device, limit)

    @get(
        "/counts",
        guards=[may_read],
        summary="Account for telemetry",
        responses=READS,
        sync_to_thread=True,
    )
    def counts(self, fleet: Fleet) -> tuple[CountsView, ...]:
        """Return received, merged, duplicate, refused and lost messages of each device."""
        return fleet.counts()
