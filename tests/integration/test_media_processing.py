"""What processing makes of each kind of file, by real worker processes."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import PIL.Image
import PIL.ImageCms
import pillow_heif
import pytest
import pytest_asyncio
import pyvips
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mesh_core.errors import InvalidField
from mesh_core.settings import TelemetrySettings
from mesh_core.telemetry import tracing
from mesh_media.processing import spool
from mesh_media.processing.processed import Refused
from sessionmesh.v1 import media_pb2
from tests.support.media_processing import Processing, film, processing, sound
from tests.support.media_world import photograph

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def files(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Processing]:
    async with processing(tmp_path_factory.mktemp("processing")) as made:
        yield made


async def test_a_photograph_becomes_small_upright_and_says_nothing_of_its_camera(files: Processing) -> None:
    turned = pyvips.Image.new_from_buffer(photograph(2400), "").copy()
    turned.set_type(pyvips.GValue.gint_type, "orientation", 6)
    turned.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Model", "Telephone 5")
    made = await files.process(turned.jpegsave_buffer(Q=92))
    assert (made.file.width, made.file.height) == (made.image.width, made.image.height)
    assert made.image.width == 1600 > made.image.height
    assert made.reason == "UNSPECIFIED"
    assert not [name for name in made.image.get_fields() if name.startswith("exif")]


async def test_pictures_and_films_have_a_thumbnail_and_a_preview_that_messages_carry(
    files: Processing,
) -> None:
    for data in (photograph(2400), film()):
        made = (await files.process(data)).file
        assert made.thumbnail is not None
        small = pyvips.Image.new_from_buffer(made.thumbnail.data, "")
        assert (small.width, small.height) == (made.thumbnail.width, made.thumbnail.height)
        assert max(small.width, small.height) == 320
        tiny = pyvips.Image.new_from_buffer(made.preview, "")
        assert max(tiny.width, tiny.height) == 96
        assert len(made.preview) <= 4096


async def test_what_was_processed_is_recognised_and_left_alone(files: Processing) -> None:
    for data in (photograph(2400), film("-crf", "1")):
        once = await files.process(data)
        again = await files.process(once.data)
        assert len(once.data) < len(data)
        assert again.data == once.data
        assert again.reason == "COMPRESSED_ALREADY"


async def test_a_picture_that_would_grow_stays_as_it_came(files: Processing) -> None:
    lines = (pyvips.Image.xyz(2000, 1000)[0] % 2 * 255).cast("uchar")  # which grey tones take the place of
    came = lines.pngsave_buffer(compression=9, bitdepth=1, keep="none")
    made = await files.process(came)
    assert (made.data, made.reason) == (came, "NOT_SMALLER")
    assert (made.file.width, made.file.height) == (2000, 1000)


async def test_heic_becomes_a_jpeg(files: Processing) -> None:
    pillow_heif.register_heif_opener()
    came = io.BytesIO()
    PIL.Image.open(io.BytesIO(photograph(400))).save(came, "HEIF", quality=100)
    made = await files.process(came.getvalue())
    assert made.file.mime_type == "image/jpeg"
    assert made.data.startswith(b"\xff\xd8")
    assert (made.file.width, made.file.height) == (made.image.width, made.image.height)
    assert len(made.data) < len(came.getvalue())


async def test_heic_becomes_a_jpeg_though_that_is_larger_unless_it_came_from_the_network(
    files: Processing,
) -> None:
    pillow_heif.register_heif_opener()
    came = io.BytesIO()
    PIL.Image.open(io.BytesIO(photograph(400))).save(came, "HEIF", quality=30)
    made = await files.process(came.getvalue())
    assert (made.file.mime_type, made.reason) == ("image/jpeg", "UNSPECIFIED")
    assert len(made.data) > len(came.getvalue())
    kept = await files.process(came.getvalue(), foreign=True)
    assert (kept.data, kept.file.mime_type, kept.reason) == (came.getvalue(), "image/heic", "NOT_SMALLER")


@pytest.mark.parametrize("width", [400, 2000])
async def test_a_picture_for_print_becomes_one_for_screens(files: Processing, width: int) -> None:
    came = io.BytesIO()
    PIL.Image.open(io.BytesIO(photograph(width))).convert("CMYK").save(came, "JPEG", quality=92)
    made = await files.process(came.getvalue())
    assert made.file.thumbnail is not None
    assert pyvips.Image.new_from_buffer(made.file.thumbnail.data, "").interpretation == "srgb"
    assert made.image.interpretation == "srgb"


async def test_a_screenshot_stays_lossless_and_an_animation_moving(files: Processing) -> None:
    large = pyvips.Image.new_from_buffer(photograph(2000), "").pngsave_buffer()
    assert (await files.process(large)).file.mime_type == "image/png"
    made = await files.process(_animation("GIF"))
    assert (made.file.mime_type, made.file.animated, made.reason) == ("image/gif", True, "TYPE")
    assert made.file.thumbnail is not None


@pytest.mark.parametrize("kind", ["photograph", "GIF", "WEBP"])
async def test_a_sticker_is_webp_of_512_pixels_and_moves_if_it_did(files: Processing, kind: str) -> None:
    came = photograph(900) if kind == "photograph" else _animation(kind)
    made = await files.process(came, purpose=media_pb2.MEDIA_PURPOSE_STICKER)
    picture = PIL.Image.open(io.BytesIO(made.data))
    assert (picture.format, picture.size) == ("WEBP", (512, 512))
    assert made.file.mime_type == "image/webp"
    assert getattr(picture, "n_frames", 1) == (1 if kind == "photograph" else 5)
    assert made.file.animated == (kind != "photograph")
    again = await files.process(made.data, purpose=media_pb2.MEDIA_PURPOSE_STICKER)
    assert again.reason == "COMPRESSED_ALREADY"


@pytest.mark.parametrize("kind", ["mp4", "matroska"])
async def test_a_film_becomes_an_mp4_of_at_most_720_lines(files: Processing, kind: str) -> None:
    made = await files.process(film("-b:v", "20M", size="1600x900", kind=kind))
    assert made.file.mime_type == "video/mp4"
    assert (made.file.width, made.file.height) == (1280, 720)
    assert made.file.duration_ms == pytest.approx(400, abs=60)
    assert made.data.index(b"moov") < made.data.index(b"mdat")


@pytest.mark.parametrize("kind", ["mp4", "mov"])
async def test_a_film_that_is_small_becomes_an_mp4_that_begins_with_its_index(
    files: Processing, kind: str
) -> None:
    came = film("-c:v", "libx264", "-crf", "30", "-c:a", "aac", kind=kind)
    made = await files.process(came)
    assert (made.file.mime_type, made.reason) == ("video/mp4", "UNSPECIFIED")
    assert made.data.index(b"moov") < made.data.index(b"mdat")
    assert len(made.data) < len(came) + 10_000


async def test_a_film_that_was_turned_is_measured_upright(files: Processing) -> None:
    came = film("-crf", "1", size="640x360")
    upright = await files.process(_turned(came))
    assert (upright.file.width, upright.file.height) == (360, 640)


async def test_a_video_note_is_square_and_short(files: Processing) -> None:
    made = await files.process(film(size="640x360"), purpose=media_pb2.MEDIA_PURPOSE_VIDEO_NOTE)
    assert made.file.width == made.file.height == 360
    long = film("-r", "1", seconds=62.0, size="64x64")
    with pytest.raises(Refused, match="at most 60 seconds") as refused:
        await files.process(long, purpose=media_pb2.MEDIA_PURPOSE_VIDEO_NOTE)
    assert refused.value.failure == media_pb2.MEDIA_FAILURE_NOT_CONVERTIBLE


@pytest.mark.parametrize(("kind", "codec"), [("mp3", "libmp3lame"), ("adts", "aac"), ("wav", "pcm_s16le")])
async def test_a_voice_note_is_opus_with_a_waveform(files: Processing, kind: str, codec: str) -> None:
    came = sound("-c:a", codec, kind=kind)
    made = await files.process(came, purpose=media_pb2.MEDIA_PURPOSE_VOICE)
    assert made.file.mime_type == "audio/ogg"
    assert made.data[28:36] == b"OpusHead"
    assert made.data[37] == 1, "one channel"
    assert made.file.duration_ms == pytest.approx(2000, abs=100)
    assert len(made.file.waveform) == 64
    assert made.file.waveform[8] < made.file.waveform[32] < made.file.waveform[60]
    again = await files.process(made.data, purpose=media_pb2.MEDIA_PURPOSE_VOICE)
    assert (again.data, again.reason) == (made.data, "COMPRESSED_ALREADY")
    assert len(again.file.waveform) == 64


@pytest.mark.parametrize(
    ("codec", "kind"),
    [("libopus", "audio/ogg"), ("libvorbis", "application/ogg"), ("flac", "application/ogg")],
)
async def test_only_an_ogg_that_phones_play_is_told_for_a_sound(
    files: Processing, codec: str, kind: str
) -> None:
    came = sound("-c:a", codec, kind="ogg")
    made = await files.process(came)
    assert (made.data, made.file.mime_type) == (came, kind)
    foreign = await files.process(came, foreign=True)
    assert (foreign.data, foreign.file.mime_type) == (came, "audio/ogg")


async def test_a_voice_note_of_two_channels_gets_one(files: Processing) -> None:
    came = sound("-c:a", "libopus", "-ac", "2", kind="ogg")
    made = await files.process(came, purpose=media_pb2.MEDIA_PURPOSE_VOICE)
    assert (made.file.mime_type, made.data[28:36], made.data[37]) == ("audio/ogg", b"OpusHead", 1)


async def test_a_voice_note_of_the_network_is_measured_and_never_made_larger(files: Processing) -> None:
    came = sound("-c:a", "libopencore_amrnb", "-ar", "8000", "-ac", "1", kind="amr")
    made = await files.process(came, purpose=media_pb2.MEDIA_PURPOSE_VOICE, foreign=True)
    assert (made.data, made.file.mime_type, made.reason) == (came, "audio/amr", "NOT_SMALLER")
    assert len(made.file.waveform) == 64


async def test_a_film_of_the_network_that_takes_longer_than_its_node_waits_is_kept_as_it_came(
    files: Processing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "START_SECONDS", 0.01)
    monkeypatch.setattr(spool, "LEAST_RATE", 2**60)
    kept = await files.process(film(), foreign=True)
    assert kept.reason == "RESOURCE_LIMIT"
    assert kept.data == film()
    assert (await files.process(film())).reason != "RESOURCE_LIMIT", "a caller has time"


async def test_a_film_without_pictures_is_a_sound(files: Processing) -> None:
    made = await files.process(sound("-c:a", "aac", kind="mp4"))
    assert (made.file.mime_type, made.reason) == ("audio/mp4", "TYPE")


async def test_other_sounds_are_kept_and_measured(files: Processing) -> None:
    made = await files.process(sound("-b:a", "128k"))
    assert (made.reason, made.file.mime_type) == ("TYPE", "audio/mpeg")
    assert made.file.duration_ms == pytest.approx(2000, abs=100)
    assert not made.file.waveform


@pytest.mark.parametrize("came", [photograph(2400), film(), b"MZ a program"], ids="pfx")
async def test_a_document_is_not_looked_into(files: Processing, came: bytes) -> None:
    made = await files.process(came, purpose=media_pb2.MEDIA_PURPOSE_DOCUMENT)
    assert (made.data, made.reason, made.file.thumbnail) == (came, "TYPE", None)


async def test_compression_off_keeps_the_bytes_and_aggressive_is_smaller(files: Processing) -> None:
    came = photograph(2400)
    off = await files.process(came, compression=media_pb2.COMPRESSION_OFF)
    assert (off.data, off.reason) == (came, "OFF")
    assert off.file.thumbnail is not None
    balanced = await files.process(came)
    hard = await files.process(came, compression=media_pb2.COMPRESSION_AGGRESSIVE)
    assert len(hard.data) < len(balanced.data) * 0.75
    assert max(hard.image.width, hard.image.height) == 1280


@pytest.mark.parametrize(
    ("came", "purpose"),
    [
        (b"%PDF-1.7", media_pb2.MEDIA_PURPOSE_IMAGE),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", media_pb2.MEDIA_PURPOSE_IMAGE),
        (film(), media_pb2.MEDIA_PURPOSE_IMAGE),
        (photograph(600), media_pb2.MEDIA_PURPOSE_VIDEO),
        (sound("-c:a", "aac", kind="mp4"), media_pb2.MEDIA_PURPOSE_VIDEO),
        (b"%PDF-1.7", media_pb2.MEDIA_PURPOSE_STICKER),
        (sound(), media_pb2.MEDIA_PURPOSE_STICKER),
        (sound(), media_pb2.MEDIA_PURPOSE_VIDEO_NOTE),
        (photograph(600), media_pb2.MEDIA_PURPOSE_VOICE),
    ],
    ids=[
        "document-image",
        "svg-image",
        "film-image",
        "picture-video",
        "sound-video",
        "document-sticker",
        "sound-sticker",
        "sound-video-note",
        "picture-voice",
    ],
)
async def test_what_cannot_be_made_what_its_purpose_needs_is_refused_or_kept(
    files: Processing, came: bytes, purpose: int
) -> None:
    with pytest.raises(Refused) as refused:
        await files.process(came, purpose=purpose)
    assert isinstance(refused.value, InvalidField)
    assert refused.value.failure == media_pb2.MEDIA_FAILURE_NOT_CONVERTIBLE
    kept = await files.process(came, purpose=purpose, foreign=True)
    assert (kept.data, kept.reason) == (came, "TYPE")


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "AVIF", "GIF", "WEBP", "HEIF"])
@pytest.mark.parametrize("off", [False, True], ids=["balanced", "off"])
async def test_a_picture_to_be_shown_becomes_a_jpeg_upright(files: Processing, kind: str, off: bool) -> None:
    pillow_heif.register_heif_opener()
    came = io.BytesIO()
    PIL.Image.open(io.BytesIO(photograph(300))).save(came, kind)
    compression = media_pb2.COMPRESSION_OFF if off else media_pb2.COMPRESSION_BALANCED
    made = await files.process(
        came.getvalue(), purpose=media_pb2.MEDIA_PURPOSE_IMAGE, compression=compression
    )
    assert (made.file.mime_type, made.reason) == ("image/jpeg", "UNSPECIFIED")
    assert (made.file.width, made.file.height) == (made.image.width, made.image.height) == (300, 352)
    as_document = await files.process(came.getvalue(), compression=media_pb2.COMPRESSION_OFF)
    assert as_document.data == came.getvalue()


@pytest.mark.parametrize(
    ("purpose", "kind"),
    [(media_pb2.MEDIA_PURPOSE_IMAGE, "image/jpeg"), (media_pb2.MEDIA_PURPOSE_STICKER, "image/webp")],
)
async def test_of_a_png_that_moves_the_first_picture_is_shown(
    files: Processing, purpose: media_pb2.MediaPurpose.ValueType, kind: str
) -> None:
    frames = [PIL.Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    came = io.BytesIO()
    frames[0].save(came, "PNG", save_all=True, append_images=frames[1:])
    made = await files.process(came.getvalue(), purpose=purpose)
    assert made.file.mime_type == kind
    red, _, blue, *_ = made.image(made.image.width // 2, made.image.height // 2)
    assert red > 200 > 50 > blue


async def test_what_is_clear_in_a_picture_to_be_shown_becomes_white(files: Processing) -> None:
    came = io.BytesIO()
    PIL.Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(came, "WEBP", lossless=True)
    made = await files.process(came.getvalue(), purpose=media_pb2.MEDIA_PURPOSE_IMAGE)
    assert made.image(20, 20) == [255, 255, 255]


async def test_a_bmp_of_more_pixels_than_are_taken_is_refused_before_it_is_decoded(
    files: Processing,
) -> None:
    came = io.BytesIO()
    PIL.Image.new("1", (8, 8)).save(came, "BMP")
    lying = bytearray(came.getvalue())
    lying[18:26] = (20_000).to_bytes(4, "little") * 2
    with pytest.raises(Refused, match="20000x20000"):
        await files.process(bytes(lying), purpose=media_pb2.MEDIA_PURPOSE_IMAGE)


async def test_a_gif_to_be_played_becomes_a_film_without_sound(files: Processing) -> None:
    made = await files.process(_animation("GIF"), purpose=media_pb2.MEDIA_PURPOSE_VIDEO)
    assert (made.file.mime_type, made.reason) == ("video/mp4", "UNSPECIFIED")
    assert made.file.duration_ms == pytest.approx(500, abs=120)
    assert made.data.index(b"moov") < made.data.index(b"mdat")
    assert b"avc1" in made.data
    assert b"mp4a" not in made.data
    again = await files.process(made.data, purpose=media_pb2.MEDIA_PURPOSE_VIDEO)
    assert (again.data, again.reason) == (made.data, "COMPRESSED_ALREADY")


async def test_a_gif_that_stands_still_for_long_is_a_film_as_long(files: Processing) -> None:
    black, white = (PIL.Image.new("L", (64, 64), colour) for colour in (0, 255))
    came = io.BytesIO()
    black.save(came, "GIF", save_all=True, append_images=[white], duration=2000)
    made = await files.process(came.getvalue(), purpose=media_pb2.MEDIA_PURPOSE_VIDEO)
    assert made.file.duration_ms == pytest.approx(4000, abs=200)


@pytest.mark.parametrize(
    ("codec", "kind"),
    [("libx265", "mp4"), ("libvpx-vp9", "webm"), ("mpeg4", "avi")],
    ids=["HEVC", "VP9", "AVI"],
)
async def test_a_film_that_phones_do_not_play_becomes_one_that_they_do_though_it_is_larger(
    files: Processing, codec: str, kind: str
) -> None:
    small = ("-b:v", "30k", "-an") if codec != "mpeg4" else ("-q:v", "31", "-an")
    came = film("-c:v", codec, *small, "-pix_fmt", "yuv420p", size="320x240", kind=kind)
    made = await files.process(came)
    assert (made.file.mime_type, made.reason) == ("video/mp4", "UNSPECIFIED")
    assert b"avc1" in made.data
    kept = await files.process(came, foreign=True)
    assert len(kept.data) <= len(came)


async def test_a_film_to_be_played_is_made_so_though_compression_is_off(files: Processing) -> None:
    came = film("-c:v", "libx265", "-an", size="320x240")
    off = media_pb2.COMPRESSION_OFF
    assert (await files.process(came, compression=off)).data == came
    made = await files.process(came, compression=off, purpose=media_pb2.MEDIA_PURPOSE_VIDEO)
    assert b"avc1" in made.data
    again = await files.process(made.data, compression=off, purpose=media_pb2.MEDIA_PURPOSE_VIDEO)
    assert again.data == made.data


def _place() -> bytes:
    """Tags as phones write them: a place, and how the picture is turned."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x0110] = "Telephone 5"
    return exif.tobytes()


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
async def test_a_small_jpeg_says_nothing_of_its_place_and_each_pixel_stays(
    files: Processing, mode: str
) -> None:
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    came = io.BytesIO()
    picture = PIL.Image.open(io.BytesIO(photograph(400))).convert(mode)
    picture.save(came, "JPEG", quality=60, exif=_place(), icc_profile=profile, comment=b"at home")
    motion = came.getvalue() + b"a film of the place"
    made = await files.process(motion, purpose=media_pb2.MEDIA_PURPOSE_IMAGE)
    assert made.reason == "UNSPECIFIED"
    assert not [said for said in (b"Telephone", b"at home", b"the place") if said in made.data]
    shown = PIL.Image.open(io.BytesIO(made.data))
    assert shown.tobytes() == PIL.Image.open(came).tobytes()
    assert (dict(shown.getexif()), shown.info["icc_profile"]) == ({0x0112: 6}, profile)
    assert (made.file.width, made.file.height) == (shown.height, shown.width)
    again = await files.process(made.data)
    assert (again.data, again.reason) == (made.data, "COMPRESSED_ALREADY")


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
async def test_a_small_picture_of_another_type_says_nothing_of_its_place(
    files: Processing, kind: str
) -> None:
    came = io.BytesIO()
    picture = PIL.Image.open(io.BytesIO(photograph(400)))
    picture.save(came, kind, exif=_place())
    made = await files.process(came.getvalue())
    assert b"Telephone" not in made.data
    shown = PIL.Image.open(io.BytesIO(made.data))
    assert shown.tobytes() == PIL.Image.open(came).tobytes()


async def test_a_small_picture_of_the_network_stays_as_it_came(files: Processing) -> None:
    came = io.BytesIO()
    PIL.Image.open(io.BytesIO(photograph(400))).save(came, "JPEG", quality=60, exif=_place())
    kept = await files.process(came.getvalue(), foreign=True)
    assert (kept.data, kept.reason) == (came.getvalue(), "COMPRESSED_ALREADY")


async def test_a_small_film_says_nothing_of_its_place(files: Processing) -> None:
    place = ("-metadata", "com.apple.quicktime.location.ISO6709=+52.5200+013.4050/")
    tagged = ("-movflags", "+faststart+use_metadata_tags", *place)
    came = film("-c:v", "libx264", "-crf", "30", "-c:a", "aac", *tagged)
    assert b"+52.5200" in came
    made = await files.process(came)
    assert b"+52.5200" not in made.data
    assert (await files.process(made.data)).reason == "COMPRESSED_ALREADY"


async def test_the_wait_for_a_turn_is_a_span_of_its_own(files: Processing) -> None:
    memory = InMemorySpanExporter()
    tracing.configure("service", TelemetrySettings(sample_ratio=1.0), exporter=memory)
    await files.process(photograph(400))
    tracing.shutdown()
    turn, processed = memory.get_finished_spans()
    assert (turn.name, processed.name) == ("mesh.media.turn", "mesh.media.process")
    assert (turn.end_time or 0) <= (processed.start_time or 0)


def _animation(kind: str) -> bytes:
    picture = PIL.Image.open(io.BytesIO(photograph(300)))
    frames = [picture.rotate(10 * turn) for turn in range(5)]
    made = io.BytesIO()
    frames[0].save(made, kind, save_all=True, append_images=frames[1:], duration=100)
    return made.getvalue()


def _turned(mp4: bytes) -> bytes:
    """The film with a matrix in its first track's header that turns it by 90 degrees."""
    at = mp4.index(b"tkhd") + 44
    matrix = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    turned = b"".join(number.to_bytes(4, signed=True) for number in matrix)
    return mp4[:at] + turned + mp4[at + 36 :]
