"""fedlite audit: attack a run and compare with what it claims.

usage: fedlite audit DIR [option=value ...]

  audit.parts=[dirac,membership,inversion]
                            which attacks; earlier results of the others stay
  audit.canaries=N          examples (or clients) made to be noticed
  audit.shadows=N           students the attacker trains; audit.targets=N: those
                            it attacks; audit.clients=N: of their federation
  audit.compressed=false    leaves out the compressed form of every student
  audit.control=false       leaves out the same attack without privacy
  audit.inversion_steps=N   of each search for an example with a given gradient
  audit=quick               fewer models and steps: a minute or two on digits

Messages go to the run's own train handler, in ledgers of the audit's own. A
lower bound of epsilon above the claim, or a check of what ran that fails, is
said in red and exits 1; all together are wrong in 5% of audits of correct
code. Writes audits.json, pictures, TensorBoard and the report. No client's
data are used and no ledger of the run is charged.
"""

from fedlite.cli.jobs import StageCommand, run_command
from fedlite.cli.parse import Arguments
from fedlite.cli.show import show_audits


def run(arguments: Arguments) -> int:
    """Run the attacks again, and the report after them."""
    command = StageCommand(("audit", "report"), show_audits, on_a_run=True, again="audit")
    return run_command(arguments, command)
