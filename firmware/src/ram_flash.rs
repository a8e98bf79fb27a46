//! A flash memory simulated in RAM: erased to ones by the sector, programmed from one to zero by the word.

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_write};

/// The simulated memory.
pub struct RamFlash<'a>(pub &'a mut [u8]);

impl RamFlash<'_> {
    fn part(&mut self, from: u32, to: u32) -> Result<&mut [u8], NorFlashErrorKind> {
        self.0.get_mut(from as usize..to as usize).ok_or(NorFlashErrorKind::OutOfBounds)
    }
}

impl ErrorType for RamFlash<'_> {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for RamFlash<'_> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        let part = self.part(offset, offset.saturating_add(bytes.len() as u32))?;
        bytes.copy_from_slice(part);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl NorFlash for RamFlash<'_> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 1024;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to).map_err(|error| error.kind())?;
        self.part(from, to)?.fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len()).map_err(|error| error.kind())?;
        let part = self.part(offset, offset.saturating_add(bytes.len() as u32))?;
        part.iter_mut().zip(bytes).for_each(|(cell, byte)| *cell &= byte);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_go_from_one_to_zero_until_erased() {
        let mut cells = [0; 2048];
        let mut flash = RamFlash(&mut cells);
        flash.erase(1024, 2048).unwrap();
        flash.write(1024, &[0xf0, 1, 2, 3]).unwrap();
        flash.write(1024, &[0x3f, 0xff, 0xff, 0xff]).unwrap();
        let mut read = [0; 5];
        flash.read(1023, &mut read).unwrap();
        assert_eq!(read, [0, 0x30, 1, 2, 3]);
        assert_eq!(flash.write(1026, &[0; 4]), Err(NorFlashErrorKind::NotAligned));
        assert_eq!(flash.erase(1024, 4096), Err(NorFlashErrorKind::OutOfBounds));
        assert_eq!(flash.read(2044, &mut read), Err(NorFlashErrorKind::OutOfBounds));
    }
}
