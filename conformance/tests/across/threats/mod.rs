//! The rows of the threat model as tests, named by their ids (`c3_02_...` is C3-02): the attack, and the only right
//! answer. One module per chapter.

mod kit;

mod c10_faults;
mod c12_ids;
mod c13_secrets;
mod c14_tower;
mod c15_misc;
mod c17_budget;
mod c17_endpoints;
mod c17_framing;
mod c1_conflicts;
mod c2_values;
mod c3_body;
mod c4_paths;
mod c7_digests;
mod oracle;
mod random;
mod wire;
