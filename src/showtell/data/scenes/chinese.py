"""Captions of a scene in Chinese, in simplified characters, with each noun's measure word."""

from showtell.data.scenes.world import Scene, Thing

# The noun, and what things of its kind are counted with: 一颗星星, 两朵花, but 三个圆形.
NOUNS = {
    "circle": ("圆形", "个"),
    "square": ("正方形", "个"),
    "triangle": ("三角形", "个"),
    "star": ("星星", "颗"),
    "heart": ("爱心", "颗"),
    "hexagon": ("六边形", "个"),
    "ring": ("圆环", "个"),
    "cross": ("十字", "个"),
    "crescent": ("月牙", "弯"),
    "flower": ("花", "朵"),
}
COLOURS = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "pink": "粉色",
    "white": "白色",
    "black": "黑色",
}
TEXTURES = {"plain": "", "striped": "条纹", "spotted": "圆点", "checkered": "格子"}
NUMBERS = {1: "一", 2: "两", 3: "三", 4: "四", 5: "五"}  # 两, not 二, before a measure word
PLACES = {
    "white": "白色背景上",
    "black": "黑色背景上",
    "gray": "灰色背景上",
    "sky": "多云的天空中",
    "grass": "绿色的草地上",
    "sea": "海面上",
    "night": "夜空中",
    "sunset": "夕阳前",
    "sand": "沙滩上",
    "brick": "砖墙上",
    "wood": "木地板上",
}
RELATIONS = {
    "left": "的左边",
    "right": "的右边",
    "above": "的上方",
    "below": "的下方",
    "inside": "里面",
    "between": "之间",
}


def phrasings(scene: Scene) -> list[str]:
    """Six captions of a scene, in the order of the English ones; two may be the same."""
    return _related(scene) if scene.relation else _of_one_kind(scene)


def phrase(thing: Thing, *, count: int = 1, size: bool = False, texture: bool = False) -> str:
    """A thing, or several: ``一颗蓝色条纹的大星星``."""
    noun, measure = NOUNS[thing.shape]
    pattern = TEXTURES[thing.texture] if texture else ""
    large = ("大" if thing.large else "小") if size else ""
    return f"{NUMBERS[count]}{measure}{COLOURS[thing.colour]}{pattern}的{large}{noun}"


def _of_one_kind(scene: Scene) -> list[str]:
    """Of a single thing, or of a group of equal ones."""
    thing, place, count = scene.things[0], PLACES[scene.background], scene.count
    full = phrase(thing, count=count, size=True, texture=True)
    short = phrase(thing, count=count, texture=True)
    return [
        f"{full}在{place}",
        f"{place}的{short}",
        f"{place}有{full}",
        f"{phrase(thing, count=count, size=True)}在{place}",
        f"图片里有{full}",
        f"{short}在{place}",
    ]


def _related(scene: Scene) -> list[str]:
    first, second = scene.things
    place, is_between = PLACES[scene.background], scene.kind == "between"
    count, where = (2 if is_between else 1), RELATIONS[scene.relation or ""]
    other = f"{phrase(second, count=count)}{where}"
    sized = f"{phrase(second, count=count, size=not is_between)}{where}"
    short = phrase(first)
    return [
        f"{place}有{short}在{other}",
        f"{short}在{other}",
        f"{place}可以看到{short}在{other}",
        f"{place}有{phrase(first, size=not is_between)}在{sized}",
        f"{other}有{short}",
        f"图片里有{short}在{other}",
    ]
