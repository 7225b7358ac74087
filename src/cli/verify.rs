//! `kymo verify`: is everything in a data folder as it was written? Reads all of it; the server must not run.

use crate::batch::EncodedBatch;
use crate::budget::{Budgets, Machine, Overrides};
use crate::engine::losses::{self, Losses};
use crate::engine::{self, Engine, EngineOptions, attempt};
use crate::journal::disk::Folder;
use crate::journal::replay::{Replayed, replay};
use crate::store::files::Flaw;
use crate::store::verify::{Verified, bytes_to_read, verify};
use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};

/// Flags of `kymo verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The data folder; no server may be using it
    #[arg(long, value_name = "DIR", env = "KYMO_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Repair what can be repaired without losing more: take the journal's sound batches into the store, make files of the
    /// storage engine anew that can be made from the others. Damaged files are kept in DIR/quarantine
    #[arg(long)]
    pub repair: bool,
    /// Also prove that the batch with this sequence (X-Kymo-Sequence of the answer to a write) is there
    #[arg(long, value_name = "N")]
    pub sequence: Option<u64>,
}

/// What the journal holds.
struct JournalState {
    replayed: Replayed,
    flaws: Vec<Flaw>,
    /// Is the sequence asked for in it?
    found: bool,
}

/// Runs the command.
///
/// # Errors
/// Something is not sound, or cannot be read.
pub fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let dir = &args.data_dir;
    if !dir.join("store").is_dir() && !dir.join("journal").is_dir() {
        bail!("{} is no data folder of kymo", dir.display());
    }
    let lock = engine::lock(dir)?;
    let flaws = look(dir, args.sequence)?;
    if flaws == 0 {
        println!("sound");
        return Ok(());
    }
    if !args.repair {
        bail!("{flaws} flaws; nothing was changed (see --repair)");
    }
    drop(lock);
    super::repair::repair(dir)?;
    let _lock = engine::lock(dir)?;
    println!("verifying what was repaired");
    match look(dir, args.sequence)? {
        0 => {
            println!("sound");
            Ok(())
        }
        left => bail!("{left} flaws are left; restore a backup to be rid of them"),
    }
}

/// Verifies everything and says what is wrong: how many flaws.
fn look(dir: &Path, sequence: Option<u64>) -> anyhow::Result<u64> {
    let store = dir.join("store");
    let bar = ProgressBar::new(bytes_to_read(&store)?);
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.set_style(style.context("a fixed template")?);
    let verified = verify(&store, &mut |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    let journal = look_at_journal(dir, verified.watermark.unwrap_or(0), sequence)?;
    let aside = attempt::aside(dir)?;
    let mut others: Vec<Flaw> = aside.iter().map(|&sequence| quarantined(dir, sequence)).collect();
    let losses = Losses::read(dir)?;
    others.extend(missing_end(dir, &verified, &journal, &losses));
    if losses.damaged() > 0 {
        others.push(Flaw {
            place: dir.join(losses::NAME).display().to_string(),
            reason: format!("{} lines are damaged", losses.damaged()),
        });
    }
    for flaw in verified.flaws.iter().chain(&journal.flaws).chain(&others) {
        println!("{}: {}", flaw.place, flaw.reason);
    }
    for (from, to) in losses.known() {
        println!(
            "note: damage of the journal took the sequences {from} to {to}, found at a start since then"
        );
    }
    say(&verified, &journal);
    if let Some(sequence) = sequence {
        if aside.contains(&sequence) {
            bail!(
                "sequence {sequence} was set aside when the journal was replayed: its points are in no query"
            );
        }
        if let Some((from, to)) = losses.of(sequence) {
            bail!("sequence {sequence} is lost: damage of the journal took the sequences {from} to {to}");
        }
        prove(sequence, &verified, &journal)?;
    }
    Ok(verified.flaws_total + (journal.flaws.len() + others.len()) as u64)
}

fn say(verified: &Verified, journal: &JournalState) {
    println!(
        "store: {} values, {} runs, {} rows, {} series, sealed up to sequence {}",
        verified.values,
        verified.runs,
        verified.rows,
        verified.series,
        verified.watermark.map_or("?".to_string(), |n| n.to_string())
    );
    println!(
        "journal: {} batches ({}) wait for the store, the last sequence is {}",
        journal.replayed.frames,
        HumanBytes(journal.replayed.bytes),
        journal.replayed.existing.next_sequence.saturating_sub(1)
    );
}

fn prove(sequence: u64, verified: &Verified, journal: &JournalState) -> anyhow::Result<()> {
    if verified.watermark.is_some_and(|sealed| sequence <= sealed) {
        println!("sequence {sequence} is in the store");
    } else if journal.found {
        println!("sequence {sequence} is in the journal, whole");
    } else {
        bail!("sequence {sequence} is neither in the store nor in the journal");
    }
    Ok(())
}

fn look_at_journal(dir: &Path, watermark: u64, wanted: Option<u64>) -> anyhow::Result<JournalState> {
    let folder = dir.join("journal");
    let mut state = JournalState {
        replayed: Replayed::default(),
        flaws: Vec::new(),
        found: false,
    };
    if !folder.is_dir() {
        return Ok(state);
    }
    let disk = Folder::open(&folder)?;
    let replayed = replay(&disk, watermark, |sequence, bytes| {
        match EncodedBatch::from_bytes(bytes) {
            Ok(_) => state.found |= wanted == Some(sequence),
            Err(error) => state.flaws.push(Flaw {
                place: format!("batch {sequence} of the journal"),
                reason: error.to_string(),
            }),
        }
        Ok(())
    });
    state.replayed = replayed.map_err(|error| anyhow!("cannot read the journal: {error}"))?;
    for damage in &state.replayed.damage {
        let reason = match damage.lost {
            (0, 0) => "the segment's header is damaged".to_string(),
            (from, to) => format!("sequences {from} to {to} are lost at byte {}", damage.offset),
        };
        state.flaws.push(Flaw {
            place: folder.join(&damage.file).display().to_string(),
            reason,
        });
    }
    Ok(state)
}

/// The end of the journal rotted away, where it looks as if a crash had cut it off; but the store has heard of what was there.
fn missing_end(dir: &Path, verified: &Verified, journal: &JournalState, losses: &Losses) -> Option<Flaw> {
    let sealed = verified.watermark?;
    let from = journal.replayed.existing.next_sequence.max(sealed + 1);
    let is_missing = verified.heard >= from && losses.of(verified.heard).is_none();
    is_missing.then(|| Flaw {
        place: dir.join("journal").display().to_string(),
        reason: format!(
            "damaged at its end: sequences {from} to {} are lost, the store knows that they were there",
            verified.heard
        ),
    })
}

/// A batch that was set aside while replaying: data that is not in any query.
fn quarantined(dir: &Path, sequence: u64) -> Flaw {
    Flaw {
        place: format!("batch {sequence}"),
        reason: format!(
            "replay set it aside, its points are in no query: {}/quarantine-{sequence}.batch",
            dir.display()
        ),
    }
}

/// Opens the data folder as the server does, which takes everything sound in the journal into the store.
pub(super) fn settle(dir: &Path) -> anyhow::Result<()> {
    let budgets = Budgets::new(&Machine::look(), &Overrides::default());
    let engine = Engine::open(dir, EngineOptions::new(budgets, crate::net::clock::now))?;
    engine.stop();
    Ok(())
}
