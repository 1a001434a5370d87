//! Parallel work on many images. The results do not depend on the number of threads.
//!
//! Each image is processed separately on one thread, and results are delivered in the order of the images. The functions use the
//! current rayon pool; `pool.install(|| ..)` selects another.

use rayon::prelude::*;

/// The number of images in flight for each thread. It is large enough to balance the load and small enough to bound the memory.
const IN_FLIGHT: usize = 8;

/// Computes `compute(i)` for the images `0..count` in parallel and passes the results to `consume` in order, on the calling
/// thread. At most eight results for each thread of the pool are held at once.
///
/// # Errors
/// Returns the first error in the order of the images. Later images may have been computed, but are not passed to `consume`.
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

/// Computes `compute(i)` for the images `0..count` in parallel. The results are in the order of the images.
///
/// # Errors
/// Returns the first error in the order of the images.
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
