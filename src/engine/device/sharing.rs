//! Whether the lanes of an adapter have their weights in common, and how.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use super::adapter::Adapter;
use super::budget::Use;
use super::lane::Lane;
use super::native::NativeDevice;
use super::shelf::{Common, Place, Shelf};
use super::vulkan::{self, QueueFamily};
use crate::error::{Error, Result};

/// When lanes have their weights in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShareWeights {
    /// Where that was seen to work: on Vulkan's software adapters.
    #[default]
    Auto,
    /// Wherever the adapter has a way.
    On,
    /// Nowhere: each lane has a copy.
    Off,
}

impl FromStr for ShareWeights {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            other => Err(Error::invalid_argument(format!("share_weights is {other:?}: say auto, on or off"))),
        }
    }
}

/// How lanes have their weights in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Every lane's device imports one copy in host memory, which begins at a multiple of so many bytes.
    HostMemory {
        /// Bytes, a power of two.
        alignment: usize,
    },
    /// The lanes are queues of one device.
    Queues {
        /// How many it has.
        count: u32,
    },
    /// The lanes' devices are made of one of the system's, and bind its buffers.
    Native,
}

impl Way {
    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::HostMemory { .. } => "host memory that every lane imports",
            Self::Queues { .. } => "lanes are queues of one device",
            Self::Native => "lanes bind buffers of one native device",
        }
    }
}

impl Adapter {
    /// How lanes on it can have their weights in common; `None` where each must have a copy.
    pub fn way_to_share(&self) -> Option<Way> {
        match self.info().device_type {
            _ if matches!(self.info().backend, wgpu::Backend::Dx12 | wgpu::Backend::Metal) => Some(Way::Native),
            wgpu::DeviceType::Cpu | wgpu::DeviceType::IntegratedGpu => {
                vulkan::import_alignment(&self.raw).map(|alignment| Way::HostMemory { alignment })
            }
            // They would read host memory across a bus.
            _ => Some(vulkan::queue_count(&self.raw)).filter(|count| *count > 1).map(|count| Way::Queues { count }),
        }
    }

    /// How they do when it is left to us: only where that was seen to work.
    pub fn way_trusted(&self) -> Option<Way> {
        self.way_to_share().filter(|way| matches!(way, Way::HostMemory { .. }) && self.is_software())
    }
}

/// What the lanes of an adapter have in common.
#[derive(Debug)]
pub struct Sharing {
    way: Way,
    current: Mutex<Group>,
}

/// Lanes whose devices can read the same memory.
#[derive(Debug)]
struct Group {
    shelf: Arc<Shelf>,
    /// The device whose queues they are, where they are.
    family: Option<QueueFamily>,
    /// The system's device that theirs are made of, where that is how they share.
    native: Option<NativeDevice>,
    /// Which lanes they are, where their devices take the weights with them when they are lost.
    lanes: HashSet<usize>,
}

impl Group {
    fn new(place: Place) -> Self {
        Self { shelf: Arc::new(Shelf::new(place)), family: None, native: None, lanes: HashSet::new() }
    }
}

impl Sharing {
    /// That of new lanes on `adapter`; `None` where each is to have copies.
    pub fn begin(adapter: &Adapter, wanted: ShareWeights, lanes: usize) -> Option<Arc<Self>> {
        let way = match wanted {
            ShareWeights::Off => None,
            ShareWeights::Auto => adapter.way_trusted(),
            ShareWeights::On => adapter.way_to_share(),
        }?;
        Self::by(way, lanes)
    }

    /// That of so many lanes, in this way; `None` if it is none for so many.
    fn by(way: Way, lanes: usize) -> Option<Arc<Self>> {
        let place = match way {
            Way::HostMemory { alignment } => Place::Host { alignment },
            Way::Queues { count } if lanes <= count as usize => Place::Device,
            Way::Queues { .. } => return None,
            Way::Native => Place::Native,
        };
        Some(Arc::new(Self { way, current: Mutex::new(Group::new(place)) }))
    }

    /// How they share.
    pub fn way(&self) -> Way {
        self.way
    }

    /// A device for lane `index`, and the weights that it has in common with others.
    pub(super) fn open(
        &self,
        adapter: &Adapter,
        descriptor: &wgpu::DeviceDescriptor<'_>,
        index: usize,
    ) -> Result<(wgpu::Device, wgpu::Queue, Arc<Shelf>)> {
        let mut group = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (device, queue) = match self.way {
            Way::HostMemory { .. } => {
                let shelf = Arc::clone(&group.shelf);
                drop(group);
                let (device, queue) = vulkan::open_importing(&adapter.raw, descriptor)?;
                return Ok((device, queue, shelf));
            }
            // A lane that comes again has lost its queue: what is left of that device is no good for anybody who comes.
            Way::Queues { count } => {
                if group.family.is_none() || group.lanes.contains(&index) {
                    let family = QueueFamily::open(&adapter.raw, descriptor, count)?;
                    *group = Group { family: Some(family), ..Group::new(Place::Device) };
                }
                group.lanes.insert(index);
                let family = group.family.as_ref().ok_or_else(|| Error::internal("a device has no queues"))?;
                let queue = u32::try_from(index).map_err(|_| Error::internal("a lane's number is no queue's"))?;
                family.queue(descriptor, queue)?
            }
            // As above: the system's device may be lost, and what was in its memory with it.
            Way::Native => {
                let (device, queue) = adapter.open(descriptor)?;
                let native = NativeDevice::of(&device);
                if group.native != native || group.lanes.contains(&index) {
                    *group = Group { native, ..Group::new(Place::Native) };
                }
                group.lanes.insert(index);
                (device, queue)
            }
        };
        Ok((device, queue, Arc::clone(&group.shelf)))
    }
}

/// Weights of an executable that stay in memory beyond it, for the one that takes its place. They count as in use meanwhile.
#[derive(Debug, Default)]
pub struct KeptWeights {
    _weights: Vec<(Arc<Common>, Option<Use>)>,
}

impl KeptWeights {
    pub(super) fn new(weights: Vec<(Arc<Common>, Option<Use>)>) -> Self {
        Self { _weights: weights }
    }
}

/// The memory that weights take on an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightUse {
    /// Bytes of different weights.
    pub distinct: u64,
    /// Bytes that they take, all copies together.
    pub taken: u64,
}

impl WeightUse {
    /// That on these lanes.
    pub fn on(lanes: &[Arc<Lane>]) -> Self {
        // By key: bytes of one, copies that lanes have for themselves, and bytes of the common one.
        let mut weights = HashMap::new();
        for (key, bytes, common) in lanes.iter().flat_map(|lane| lane.weights()) {
            let (_, own, shared) = weights.entry(key).or_insert((bytes, 0u64, 0u64));
            match common {
                Some(common) => *shared = common,
                None => *own += bytes,
            }
        }
        let mut total = Self::default();
        for (bytes, own, shared) in weights.into_values() {
            total.distinct += bytes;
            total.taken += own + shared;
        }
        total
    }

    /// How often each is there, on average; 1 where there are none.
    pub fn copies(&self) -> f64 {
        if self.distinct == 0 { 1.0 } else { self.taken as f64 / self.distinct as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose() {
        assert_eq!("on".parse::<ShareWeights>().expect("known"), ShareWeights::On);
        assert_eq!(ShareWeights::default(), "auto".parse().expect("known"));
        let error = "yes".parse::<ShareWeights>().expect_err("no such word");
        assert_eq!(error.message(), "share_weights is \"yes\": say auto, on or off");
    }

    #[test]
    fn only_what_was_seen_to_work_is_chosen_unasked() {
        for adapter in Adapter::all() {
            let unasked = Sharing::begin(&adapter, ShareWeights::Auto, 2).map(|sharing| sharing.way());
            let seen = adapter.is_software() && adapter.info().backend == wgpu::Backend::Vulkan;
            assert_eq!(unasked, adapter.way_to_share().filter(|_| seen));
            assert!(Sharing::begin(&adapter, ShareWeights::Off, 2).is_none());
        }
    }

    #[test]
    fn more_lanes_than_queues_do_not_share() {
        assert!(Sharing::by(Way::Queues { count: 2 }, 3).is_none());
        assert_eq!(
            Sharing::by(Way::Queues { count: 2 }, 2).map(|sharing| sharing.way()),
            Some(Way::Queues { count: 2 })
        );
        assert!(Sharing::by(Way::HostMemory { alignment: 4096 }, 64).is_some());
    }

    fn entry(binding: u32, buffer: &wgpu::Buffer) -> wgpu::BindGroupEntry<'_> {
        wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }
    }

    /// Queues of one device, where there is but one: each lane that is opened has a device to itself, wrapped as others'
    /// queues would be.
    #[test]
    fn lanes_that_are_queues_compute_and_end() {
        let text = "@group(0) @binding(0) var<storage, read> x: array<u32>;
            @group(0) @binding(1) var<storage, read_write> y: array<u32>;
            @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) { y[id.x] = x[id.x] + 1u; }";
        for adapter in Adapter::all().iter().filter(|adapter| vulkan::queue_count(&adapter.raw) > 0) {
            let sharing = Sharing::by(Way::Queues { count: 1 }, 1).expect("one lane, one queue");
            let mut shelves = Vec::new();
            for round in 0..3u32 {
                let (device, queue, shelf) =
                    sharing.open(adapter, &wgpu::DeviceDescriptor::default(), 0).expect("a device");
                assert_eq!(shelf.place, Place::Device);
                shelves.push(shelf);
                let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
                let buffer = |usage| {
                    device.create_buffer(&wgpu::BufferDescriptor {
                        label: None,
                        size: 256,
                        usage,
                        mapped_at_creation: false,
                    })
                };
                let (first, result) = (buffer(usage), buffer(usage));
                let read = buffer(wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ);
                let numbers: Vec<u32> = (0..64).map(|i| i * 3 + round).collect();
                queue.write_buffer(&first, 0, bytemuck::cast_slice(&numbers));
                queue.submit([]);
                device.poll(wgpu::PollType::wait_indefinitely()).expect("it is written");
                let alias = vulkan::alias(&device, &first).expect("a buffer of this device");
                // The alias holds what it is of.
                drop(first);
                let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
                    label: None,
                    source: wgpu::ShaderSource::Wgsl(text.into()),
                });
                let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: None,
                    layout: None,
                    module: &module,
                    entry_point: None,
                    compilation_options: wgpu::PipelineCompilationOptions::default(),
                    cache: None,
                });
                let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: None,
                    layout: &pipeline.get_bind_group_layout(0),
                    entries: &[entry(0, &alias), entry(1, &result)],
                });
                let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&pipeline);
                pass.set_bind_group(0, &group, &[]);
                pass.dispatch_workgroups(1, 1, 1);
                drop(pass);
                encoder.copy_buffer_to_buffer(&result, 0, &read, 0, 256);
                queue.submit([encoder.finish()]);
                read.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("it can be mapped"));
                device.poll(wgpu::PollType::wait_indefinitely()).expect("it is done");
                let found = read.get_mapped_range(..).expect("it is mapped");
                let expected: Vec<u32> = numbers.iter().map(|number| number + 1).collect();
                assert_eq!(bytemuck::pod_collect_to_vec::<u8, u32>(&found), expected, "{adapter:?} round {round}");
            }
            // Who comes again gets another device, and shares nothing with what was lost.
            assert!(!Arc::ptr_eq(&shelves[0], &shelves[1]) && !Arc::ptr_eq(&shelves[1], &shelves[2]));
        }
    }

    /// What decides who is beside whom, without buffers: here no device is made of one of the system's.
    #[test]
    fn lanes_of_one_native_device_are_together_until_one_is_lost() {
        for adapter in Adapter::all() {
            let sharing = Sharing::by(Way::Native, 64).expect("as many lanes as one likes");
            let open = |index| sharing.open(&adapter, &wgpu::DeviceDescriptor::default(), index).expect("a device").2;
            let (first, second) = (open(0), open(1));
            assert!(Arc::ptr_eq(&first, &second) && first.place == Place::Native);
            let again = open(1);
            assert!(!Arc::ptr_eq(&again, &second), "what was lost is not used again");
            assert!(Arc::ptr_eq(&open(0), &again) && !Arc::ptr_eq(&open(0), &again));
        }
    }

    #[test]
    fn copies_are_counted() {
        assert_eq!(WeightUse { distinct: 8, taken: 20 }.copies(), 2.5);
        assert_eq!(WeightUse::default().copies(), 1.0);
    }
}
