"""A file of every format, written as its own tool writes it."""

ECHO_FORCING = (
    "Static shot. A woman on a rooftop garden at sunset[10s#] | A dim subway platform, a train waits[5s@] | "
    "She is back on the rooftop garden[7.5s@]; Rooftop | Subway | Call\n"
    "A cat sleeps on a mat[3s] | A dog barks at the door[2s]\n"
)
LONGLIVE = (
    '{"prompts": ["a cat sits", "a dog runs", "a bird sings"]}\n{"prompts": ["a ship", "a storm", "a harbour"]}\n'
)
LONGLIVE_TIMES = "model: longlive\nswitch_frame_indices: 40, 80\nnum_output_frames: 120\nseed: 0\n"
SCOPE = """{"prompts": [
  {"startTime": 0, "endTime": 11.5, "prompts": [{"text": "a fox in snow", "weight": 60},
   {"text": "a hen", "weight": 40}]},
  {"startTime": 11.5, "endTime": 20, "prompts": [{"text": "a fox in a forest", "weight": 100}]}],
 "settings": {"pipelineId": "longlive", "resolution": {"height": 480, "width": 832}, "seed": 42,
 "denoisingSteps": [1000, 750]}, "version": "2.0"}"""
SCOPE_WORKFLOW = """{"format": "scope-workflow", "timeline": {"entries": [
  {"start_time": 0, "end_time": 4, "prompts": [{"text": "rain on glass", "weight": 100}], "transition_steps": 4,
   "temporal_interpolation_method": "linear"},
  {"start_time": 4, "end_time": 9, "prompts": [{"text": "sun on glass", "weight": 100}], "transition_steps": 0}]}}"""
DEFORUM = """{
  "0": "tiny cute bunny, vibrant",
  "max_f/2": "a (coconut:`0.5*sin(t)`) on a beach --neg photo, realistic",
  "90": "a \\"quoted\\" durian"
}"""
DEFORUM_OLD = "0: a swamp | 30: a city of glass | 45: the sea"
FIZZNODES = '"0" :"a cat",\n"24" :"a dog, running",\n"60" :"a horse"\n'
DEFORUM_SETTINGS = """{
  "W": 512, "H": 768, "seed": -1, "sampler": "Euler", "steps": 25, "strength_schedule": "0: (0.65)",
  "prompts": {"0": "tiny (cute:1.3) bunny, <lora:fluff:0.8>, (vibrant)", "max_f/2": "a coconut --neg photo, realistic",
              "200": "a late melon"},
  "animation_prompts_positive": "oil painting,", "animation_prompts_negative": "nsfw", "max_frames": 120, "fps": 10,
  "angle": "0: (0)", "zoom": "0: (1.0025+0.002*sin(1.25*3.14*t/30))", "translation_z": "0: (1.75)",
  "transform_center_x": "0: (0.5)"
}"""
SRT = (
    "1\n00:00:00,000 --> 00:00:04,000\n<i>A cat</i>\non a mat\n\n"
    "2\n00:00:04,000 --> 00:00:08,500\nA dog at the door\n\n3\n00:00:10,000 --> 00:00:12,000\nNobody\n"
)
VTT = (
    "WEBVTT - title\n\nNOTE a remark\n\nfirst\n00:00.000 --> 00:04.000 align:start\nA cat\n\n"
    "00:04.000 --> 01:00:00.000\nA dog\n"
)
EDL = """TITLE: The cut
FCM: NON-DROP FRAME

001  TST      V     C        01:00:04:05 01:00:05:12 00:00:00:00 00:00:01:07
* FROM CLIP NAME:  clip_A
002  TST      V     C        01:00:05:12 01:00:05:12 00:00:01:07 00:00:01:07
002  TST      V     D    010 01:00:08:08 01:00:09:18 00:00:01:07 00:00:02:17
* FROM CLIP NAME:  clip_A
* TO CLIP NAME:  clip_B
003  TST      A     C        01:00:05:12 01:00:05:12 00:00:01:07 00:00:01:07
"""
FCPXML = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE fcpxml>
<fcpxml version="1.8">
  <resources><format id="r1" frameDuration="100/2500s" width="1920" height="1080"/></resources>
  <library><event name="E"><project name="The cut"><sequence format="r1"><spine>
    <clip name="roof" offset="0s" duration="27120/600s"><note>A rooftop at sunset</note></clip>
    <transition name="Cross Dissolve" offset="0s" duration="1s"/>
    <asset-clip name="street" ref="r2" offset="27120/600s" duration="5s"/>
    <gap offset="0s" duration="2s"/>
    <clip name="roof again" offset="0s" duration="4s"><marker start="0s" duration="1s" value="recall:roof"/></clip>
  </spine></sequence></project></event></library>
</fcpxml>
"""
OTIO = """{"OTIO_SCHEMA": "Timeline.1", "name": "The cut", "metadata": {}, "tracks":
 {"OTIO_SCHEMA": "Stack.1", "children": [
 {"OTIO_SCHEMA": "Track.1", "kind": "Video", "name": "V1", "children": [
  {"OTIO_SCHEMA": "Clip.1", "name": "roof", "metadata": {"echo": {"prompt": "A rooftop at sunset"}}, "source_range":
   {"OTIO_SCHEMA": "TimeRange.1", "start_time": {"OTIO_SCHEMA": "RationalTime.1", "value": 0, "rate": 24},
    "duration": {"OTIO_SCHEMA": "RationalTime.1", "value": 240, "rate": 24}}},
  {"OTIO_SCHEMA": "Transition.1", "transition_type": "SMPTE_Dissolve"},
  {"OTIO_SCHEMA": "Clip.2", "name": "street.mov", "source_range":
   {"OTIO_SCHEMA": "TimeRange.1", "start_time": {"OTIO_SCHEMA": "RationalTime.1", "value": 0, "rate": 24},
    "duration": {"OTIO_SCHEMA": "RationalTime.1", "value": 120, "rate": 24}}}]},
 {"OTIO_SCHEMA": "Track.1", "kind": "Audio", "children": []}]}}"""

EVERY = {
    "echo-forcing": ECHO_FORCING,
    "longlive": LONGLIVE,
    "scope": SCOPE,
    "scope workflow": SCOPE_WORKFLOW,
    "schedule": DEFORUM,
    "schedule settings": DEFORUM_SETTINGS,
    "schedule old": DEFORUM_OLD,
    "schedule fizz": FIZZNODES,
    "srt": SRT,
    "vtt": VTT,
    "edl": EDL,
    "fcpxml": FCPXML,
    "otio": OTIO,
}
