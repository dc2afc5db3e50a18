"""The teams of the front are trained on, each as a whole, before anything final is said of them."""

from concurrent.futures import BrokenExecutor
from dataclasses import replace

from kdnas.errors import KdnasError, StudentError
from kdnas.evaluation.score import check_teacher_beats_random
from kdnas.students.team import Team
from kdnas.study.finish import references
from kdnas.study.front import Member
from kdnas.study.objective import Objective
from kdnas.study.run_folder import RunFolder
from kdnas.study.tasks import make_refined, refine_team
from kdnas.study.watch import Watch
from kdnas.study.workers import failure_reason, result_of


def refine_members(
    objective: Objective, run: RunFolder, members: list[Member], watch: Watch
) -> tuple[list[Member], dict[int, Team]]:
    """Put the members through the stages of `[refine]`, side by side in the workers, as far as that was not done yet.

    Every stage is kept only where the team returns more on the validation episodes than before it. A team whose worker
    fails is left at the stage before, with a message.

    Returns:
        The members with what was done to them, and trial -> team as it is afterwards.

    Raises:
        KdnasError: the bank or the run is damaged or cannot be written, or the environment fails.
    """
    setup, workers = objective.setup, objective.workers
    objective.schooling.restore([member.candidate for member in members])
    refined = make_refined(setup, run.path)
    waiting = [member for member in members if len(refined.follow(member.candidate)[1]) < len(refined.stages)]
    if waiting:
        count = setup.config.refine.validation_episodes
        stages = " and ".join(stage.name for stage in refined.stages)
        watch.message(f"refining {len(waiting)} of the {len(members)} teams of the front by {stages}")
        teacher, random = references(run, workers, "validation", setup.seeds.validation(count), real=False)
        check_teacher_beats_random(teacher, random)
        futures = {workers.submit(refine_team, dict(member.candidate), teacher, random): member for member in waiting}
        while futures:
            for future in workers.wait(list(futures)):
                member, error = futures.pop(future), future.exception()
                if isinstance(error, KdnasError | BrokenExecutor) and not isinstance(error, StudentError):
                    result_of(future, f"refining trial {member.trial}")
                if error is not None:
                    watch.message(f"trial {member.trial} is not refined: {failure_reason(error)}")
                for refinement in refined.follow(member.candidate)[1]:
                    watch.message(f"trial {member.trial}: {refinement}")
    ends = {member.trial: refined.follow(member.candidate) for member in members}
    done = [replace(member, refinements=ends[member.trial][1]) for member in members]
    return done, {trial: team for trial, (team, _) in ends.items()}
