//! Work on many images, spread over threads, with results that do not depend on how many there are.
//!
//! Each image is worked on alone, on one thread, and results are handed over in the order of the images. The threads are
//! those of the rayon pool that is current where a function is called; `pool.install(|| ..)` chooses another.

use rayon::prelude::*;

/// Images in flight for each thread: enough to even out their cost, few enough to bound memory.
const IN_FLIGHT: usize = 8;

/// Computes `compute(i)` for the images `0..count` in parallel and hands the results to `consume` in order, on the calling
/// thread. At most eight results for each thread of the pool are held at once.
///
/// # Errors
/// The first error in the order of the images; later images may have been computed, but are not handed over.
pub fn for_each_image<T, E>(
    count: usize,
    compute: impl Fn(usize) -> Result<T, E> + Sync,
    mut consume: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E>
where
    T: Send,
    E: Send,
{
    let chunk = IN_FLIGHT * rayon::current_num_threads().max(1);
    let mut start = 0;
    while start < count {
        let end = count.min(start + chunk);
        let results: Vec<Result<T, E>> = (start..end).into_par_iter().with_max_len(1).map(&compute).collect();
        for (i, result) in (start..end).zip(results) {
            consume(i, result?)?;
        }
        start = end;
    }
    Ok(())
}

/// Computes `compute(i)` for the images `0..count` in parallel; the results stand in the order of the images.
///
/// # Errors
/// The first error in the order of the images.
pub fn map_images<T, E>(count: usize, compute: impl Fn(usize) -> Result<T, E> + Sync) -> Result<Vec<T>, E>
where
    T: Send,
    E: Send,
{
    let mut all = Vec::with_capacity(count);
    for_each_image(count, compute, |_, t| {
        all.push(t);
        Ok(())
    })?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_the_first_error_wins() {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                assert_eq!(
                    map_images(100, |i| Ok::<_, ()>(i * i)).unwrap(),
                    (0..100).map(|i| i * i).collect::<Vec<_>>()
                );
                let mut seen = vec![];
                let failed = for_each_image(
                    100,
                    |i| if i % 7 == 6 { Err(i) } else { Ok(i) },
                    |_, i| {
                        seen.push(i);
                        Ok(())
                    },
                );
                assert_eq!((failed, seen), (Err(6), (0..6).collect()));
            });
        }
    }
}
