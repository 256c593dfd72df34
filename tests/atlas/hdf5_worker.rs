//! HDF5 files are read in a process of their own: to the same rows, and whatever becomes of that process.

use std::{path::Path, sync::Arc};

use schemas::error::ExitCode;
use stages::ingest::{
    format::{Choice, open},
    source::{Source, chunks},
    worker::RemoteSource,
};

use crate::support::{Home, h5ad::h5ad};

const WORKER: &str = env!("CARGO_BIN_EXE_perturbine-hdf5");

#[test]
fn another_process_reads_what_this_one_would_have_read() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    let path = home.path("s.h5ad");
    let here = open(&path, &Choice::default()).unwrap();
    let there = open(&path, &Choice { worker: Some(WORKER.into()), ..Choice::default() }).unwrap();
    assert_eq!(there.origin(), here.origin());
    assert_eq!((there.cells(), there.nonzeros(), there.var()), (here.cells(), here.nonzeros(), here.var()));
    assert_eq!(there.obs(7..9, &[2, 0]).unwrap(), here.obs(7..9, &[2, 0]).unwrap());
    let read = |source: Arc<dyn Source>| chunks(source).map(Result::unwrap).collect::<Vec<_>>();
    for (there, here) in read(there).into_iter().zip(read(here)) {
        assert_eq!((there.expression, there.obs), (here.expression, here.obs));
    }
}

#[test]
fn an_error_of_the_file_comes_back_with_its_words_and_its_mend() {
    let home = Home::new();
    std::fs::write(home.path("no.h5ad"), b"this is no HDF5 file, though it is long enough to hold a header").unwrap();
    h5ad(&home, "s.h5ad", |_| {});
    for (name, layer) in [("no.h5ad", None), ("s.h5ad", Some("counts".to_owned()))] {
        let path = home.path(name);
        let choice = Choice { layer, ..Choice::default() };
        let here = open(&path, &choice).unwrap_err();
        let there = open(&path, &Choice { worker: Some(WORKER.into()), ..choice }).unwrap_err();
        assert_eq!(there.to_string(), here.to_string());
        assert_eq!((there.exit_code(), there.hint()), (here.exit_code(), here.hint()));
    }
}

#[test]
fn a_process_that_dies_or_talks_nonsense_is_an_error_of_the_file() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    for program in ["/bin/false", "/bin/cat", "/bin/ls"] {
        let error = RemoteSource::open(Path::new(program), &home.path("s.h5ad"), &Choice::default()).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Data, "{program}: {error}");
        assert!(error.to_string().contains("s.h5ad: the process that read it has died"), "{program}: {error}");
    }
}
