//! What a protected init starts is exempt like the init, until it is given the init's own value.

use super::{
    super::{
        Written,
        init::{give, result},
    },
    Worker,
};
use crate::kernel::{
    host_proc::{HostProcess, ProcessError},
    probe::forks::ForkSource,
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    shield::{EXEMPT, Seen},
};
use std::collections::BTreeSet;

impl<F: ForkSource> Worker<F> {
    /// The value of what is started in a container whose init is or was exempt, and its path.
    fn value_of_children(&self, id: CgroupId) -> Option<(i16, &CgroupPath)> {
        let of_init = || {
            let init = self.inits.get(&id)?;
            Some((init.shield.exempt_own()?, &init.protect.path))
        };
        let of_leaving = || self.leaving.get(&id).map(|it| (it.own, &it.path));
        of_init().or_else(of_leaving)
    }

    /// A process was born exempt.
    pub(super) fn forked(
        &mut self,
        container: CgroupId,
        pid: u32,
        start: u64,
        shares_memory: bool,
    ) {
        self.tools.listener.forked();
        let Some((own, path)) = self.value_of_children(container) else { return };
        let given = self.tools.processes.process(pid).and_then(|process| {
            if process.start() == start { give(&process, own) } else { Err(ProcessError::Gone) }
        });
        self.tools.listener.wrote(path, pid, Written::ChildRestored, &result(&given));
        match given {
            // It lives, and the next walk finds it again.
            Err(ProcessError::Other(_)) => drop(self.to_sweep.insert(container)),
            Err(ProcessError::Refused(_)) => self.child_refused(container),
            _ => {}
        }
        // Processes that share memory have one score (`__set_oom_adj()`, fs/proc/base.c), but for
        // vfork(): the init may have lost its own.
        if shares_memory {
            self.look_again(container);
            self.drop_released();
        }
    }

    /// Gives a process of a container the init's own value, if it is exempt and not the init. Where
    /// that is refused, the container is noted.
    pub(super) fn restore_child(
        &self,
        id: CgroupId,
        process: &HostProcess,
        refused: &mut BTreeSet<CgroupId>,
    ) -> Result<(), ProcessError> {
        let Some((own, path)) = self.value_of_children(id) else { return Ok(()) };
        if process.score()? != EXEMPT || self.is_protected(process.pid()) {
            return Ok(());
        }
        let given = give(process, own);
        self.tools.listener.wrote(path, process.pid(), Written::ChildRestored, &result(&given));
        if matches!(given, Err(ProcessError::Refused(_))) {
            refused.insert(id);
        }
        given.map(drop)
    }

    fn is_protected(&self, pid: u32) -> bool {
        self.inits.values().any(|init| {
            init.shield.exempt_own().is_some()
                && init.process.as_ref().is_some_and(|init| init.pid() == pid)
        })
    }

    /// A process in a container stays exempt, such as one of another user if CAP_DAC_OVERRIDE is
    /// missing. With the init's own value at least no more such processes come.
    pub(super) fn child_refused(&mut self, id: CgroupId) {
        let Some(init) = self.inits.get_mut(&id) else { return };
        let action = init.shield.step(Seen::ChildRefused);
        self.act(id, Some(action));
    }
}
