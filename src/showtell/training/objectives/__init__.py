"""Training objectives, and ``build_objective``, which makes one from the settings."""

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.encoders.encoder import Encoder
from showtell.training.batches import Loader, ViewLoader
from showtell.training.objectives.base import Objective
from showtell.training.objectives.beside import (
    Grades,
    Lesson,
    Rehearsal,
    Text,
    WithLessons,
)
from showtell.training.objectives.cross_entropy import CrossEntropy
from showtell.training.objectives.distillation import Distillation
from showtell.training.objectives.scst import SelfCritical
from showtell.training.pictures import PictureLoader
from showtell.training.prepare import TrainingData
from showtell.training.teachers import Teachers


def build_objective(
    config: Config,
    data: TrainingData,
    runtime: Runtime,
    *,
    regions: bool,
    encoder: Encoder | None = None,
    teachers: Teachers | None = None,
) -> Objective:
    """Make the objective that ``config`` asks for.

    Args:
        regions: whether the decoder needs grid features.
        encoder: what looks at the pictures, where ``data`` has pictures.
        teachers: of ``objective.kind = distil``.
    """
    regions = regions or (teachers is not None and teachers.need_regions)
    load: Loader
    if data.pictures is not None:
        assert encoder is not None
        load = PictureLoader(
            pictures=data.pictures, encoder=encoder, runtime=runtime, config=config, regions=regions
        )
    else:
        load = ViewLoader.from_config(data.stored(), runtime, config, regions=regions)
    objective = _of_new_pictures(config, data, runtime, load, teachers, regions=regions)
    lessons: list[Lesson] = []
    if data.text is not None:
        lessons.append(Text(data.text, runtime, config))
    if data.old is not None:
        lessons.append(Rehearsal(data.old, runtime, config))
    if data.graded is not None:
        lessons.append(Grades(data.graded, runtime, config))
    return WithLessons(objective, lessons) if lessons else objective


def _of_new_pictures(
    config: Config,
    data: TrainingData,
    runtime: Runtime,
    load: Loader,
    teachers: Teachers | None,
    *,
    regions: bool,
) -> Objective:
    if config.objective.kind == "scst":
        return SelfCritical(
            corpus=data.train,
            vocabulary=data.vocabulary,
            load=load,
            runtime=runtime,
            config=config,
        )
    asked = config.training.batch_by
    by_picture = asked == "picture" or (asked == "auto" and regions)
    if config.objective.kind == "distil":
        assert teachers is not None
        return Distillation(
            teachers,
            corpus=data.train,
            load=load,
            runtime=runtime,
            config=config,
            by_picture=by_picture,
        )
    return CrossEntropy(
        corpus=data.train,
        load=load,
        runtime=runtime,
        config=config,
        by_picture=by_picture,
        styles=tuple(data.vocabulary.styles.values()),
    )
